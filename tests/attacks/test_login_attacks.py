"""A company's login that lies, and people who would come in past it (RFC 9700, OpenID Connect Core 1.0 §16).

Rule (design, Rules of trust): deny by default. Every case goes through the hub's own pages, with a provider that
would have let the person in; each lie is one change of what it says. Nobody gets a session.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import update

from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.identity.provider.api import MOST_ATTEMPTS
from pegboard_hub.identity.provider.login import ProviderLogin
from pegboard_hub.identity.provider.metadata import Place
from pegboard_hub.identity.sessions.model import Session, sessions
from tests.folders import new_folder
from tests.hub.company import URL, Company, Hub, found_company, opened
from tests.oauth import StockClient, onward_of
from tests.providers.scripted import CLIENT, EVENT, SECRET, Change, Scripted, changed

pytestmark = pytest.mark.anyio

KEY = RSAKey.generate_key(2048, auto_kid=True)
OTHER = ECKey.generate_key("P-256", auto_kid=True)
CALLBACK = "/sign-in/callback"


@dataclass
class Browser:
    """A browser at the hub: it keeps cookies, and goes to the provider and back when told to."""

    hub: Hub
    provider: Scripted
    http: httpx2.AsyncClient

    async def begin(self) -> str:
        """Where the hub sends it."""
        answer = await self.http.get("/sign-in/start", params={"continue": "/explain"})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def back(self, answer: dict[str, str] | str) -> httpx2.Response:
        """Come back from the provider with these parameters."""
        query = answer if isinstance(answer, str) else urlencode(answer)
        return await self.http.get(f"{CALLBACK}?{query}")

    async def sign_in(self, sub: str = "ana") -> httpx2.Response:
        return await self.back(self.provider.authorize(await self.begin(), sub))

    async def session(self) -> Session | None:
        """The session that its cookie stands for."""
        identity = self.hub.parts.identity
        return await identity.sessions.find(self.http.cookies.get(identity.cookie.name))

    async def refused(self, answer: httpx2.Response) -> None:
        """Nobody was signed in, and the page says so without saying what was wrong."""
        assert answer.status_code in (403, 503), answer.text
        assert await self.session() is None
        assert "location" not in answer.headers


@pytest.fixture
def company() -> Iterator[Company]:
    root = new_folder()
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def serving() -> Iterator[Scripted]:
    with Scripted(key=KEY).serving() as found:
        yield found


@pytest.fixture
def provider(serving: Scripted) -> Scripted:
    """The provider, honest again."""
    serving.lies.clear()
    serving.hire("ana", "ads-eng")
    serving.hire("eve", "platform")
    return serving


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Where the hub of most cases has its home."""
    found = new_folder()
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="module")
async def opened_hub(serving: Scripted, root: Path) -> AsyncIterator[Hub]:
    async with opened(configured(found_company(root), serving)) as found:
        yield found


@pytest.fixture
def hub(opened_hub: Hub, provider: Scripted) -> Hub:
    """A hub that knows nothing of its provider yet."""
    login = opened_hub.parts.identity.sessions.login
    assert isinstance(login, ProviderLogin)
    login._place = Place(provider.issuer, login._fetcher)
    return opened_hub


def configured(company: Company, provider: Scripted, more: str = "") -> Company:
    """The company with that provider as its login."""
    path, secret = company.grants.with_name("sign-in.toml"), company.grants.with_name("secret")
    secret.write_text(SECRET)
    secret.chmod(0o600)
    path.write_text(
        f'[provider]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\n'
        f'client_secret = {{ file = "secret" }}\n{more}'
    )
    return replace(company, sign_in=path)


@pytest.fixture
def browser(hub: Hub, provider: Scripted) -> Browser:
    return Browser(hub, provider, another(hub))


def another(hub: Hub) -> httpx2.AsyncClient:
    """One more browser."""
    return httpx2.AsyncClient(transport=hub.public._transport, base_url=URL)


async def test_the_truth_lets_a_person_in(browser: Browser) -> None:
    answer = await browser.sign_in()
    assert answer.status_code in (200, 303)
    session = await browser.session()
    assert session is not None
    assert session.facts.groups == ("ads-eng",)


LIES: dict[str, tuple[str, Change]] = {
    "another issuer in the token": ("claims", changed(iss="https://evil.example")),
    "the issuer with a slash": ("claims", lambda c: {**c, "iss": f"{c['iss']}/"}),
    "no issuer": ("claims", changed(iss=None)),
    "another issuer in the metadata": ("metadata", changed(issuer="https://evil.example")),
    "another audience": ("claims", changed(aud="another-client")),
    "no audience": ("claims", changed(aud=None)),
    "an audience that begins like ours": ("claims", changed(aud=f"{CLIENT}-test")),
    "more audiences, made for nobody": ("claims", changed(aud=[CLIENT, "another-client"])),
    "more audiences, made for another": ("claims", changed(aud=[CLIENT, "other"], azp="other")),
    "made for another": ("claims", changed(azp="other")),
    "another nonce": ("claims", changed(nonce="x" * 43)),
    "no nonce": ("claims", changed(nonce=None)),
    "a nonce that is no text": ("claims", changed(nonce=[1])),
    "expired": ("claims", changed(exp=int(time.time()) - 60)),
    "no expiry": ("claims", changed(exp=None)),
    "an expiry that is no time": ("claims", changed(exp="9999999999")),
    "issued long ago": ("claims", changed(iat=int(time.time()) - 3600)),
    "issued tomorrow": ("claims", changed(iat=int(time.time()) + 86_400)),
    "no time of issue": ("claims", changed(iat=None)),
    "no person": ("claims", changed(sub=None)),
    "an empty person": ("claims", changed(sub="")),
    "a person that is a list": ("claims", changed(sub=["ana"])),
    "a person with a line break": ("claims", changed(sub="ana\nx-forwarded-groups: platform")),
    "a person of great length": ("claims", changed(sub="a" * 256)),
    "alg none": ("header", changed(alg="none")),
    "alg None": ("header", changed(alg="None")),
    "HS256 by the public key": ("header", changed(alg="HS256")),
    "another algorithm of the key": ("header", changed(alg="RS512")),
    "another's key under its kid": ("header", lambda h: {**h, "kid": OTHER.kid}),
    "a key that came with the token": ("header", lambda h: {**h, "jwk": KEY.as_dict(private=False), "kid": "mine"}),
    "a key at an address": ("header", changed(kid="mine", jku="https://evil.example/keys")),
    "an extension that must be understood": ("header", changed(crit=["exp"], exp=1)),
    "an access token": ("header", changed(typ="at+jwt")),
    "a logout token": ("header", changed(typ="logout+jwt")),
    "no id token": ("tokens", changed(id_token=None)),
    "an id token that is none": ("tokens", changed(id_token="a.b.c")),
    "an unsigned id token": ("tokens", lambda t: {**t, "id_token": t["id_token"].rpartition(".")[0] + "."}),
    "userinfo of somebody else": ("userinfo", changed(sub="eve", groups=["platform"])),
    "userinfo of nobody": ("userinfo", changed(sub=None)),
    "a flood of groups": ("userinfo", changed(groups=[f"group-{n}" for n in range(65)])),
    "a torrent of groups": ("userinfo", changed(groups=["x"] * 2001)),
    "groups left out, for there are too many": ("userinfo", changed(groups=None, _claim_names={"groups": "src1"})),
    "groups left out, in Entra's other way": ("userinfo", changed(groups=None, hasgroups=True)),
    "keys that are secrets": ("keys", lambda k: {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": KEY.kid}]}),
    "a key too short": ("keys", lambda k: {"keys": [SHORT]}),
    "keys for something else": ("keys", lambda k: {"keys": [{**k["keys"][0], "use": "enc"}]}),
    "two keys of one name": ("keys", lambda k: {"keys": [k["keys"][0], {**RIVAL, "kid": k["keys"][0]["kid"]}]}),
    "no keys": ("keys", lambda k: {"keys": []}),
    "a token endpoint in the clear": ("metadata", changed(token_endpoint="http://192.0.2.1/token")),
    "keys in the clear": ("metadata", changed(jwks_uri="http://evil.example/keys")),
    "keys on disk": ("metadata", changed(jwks_uri="file:///etc/passwd")),
    "userinfo in the clear": ("metadata", changed(userinfo_endpoint="http://192.0.2.1/userinfo")),
    "mix-up: the answer is another's": ("answer", changed(iss="https://evil.example")),
    "mix-up: the answer does not say whose it is": ("answer", changed(iss=None)),
    "another state": ("answer", changed(state="x" * 43)),
    "no state": ("answer", changed(state=None)),
    "an empty state": ("answer", changed(state="")),
    "no code": ("answer", changed(code=None)),
    "another code": ("answer", changed(code="x")),
    "an error beside the code": ("answer", changed(error="access_denied")),
}
SHORT = {**RSAKey.generate_key(2048).as_dict(private=False), "n": "AQAB" * 20, "kid": KEY.kid}
RIVAL = RSAKey.generate_key(2048).as_dict(private=False)


@pytest.mark.parametrize("case", LIES)
async def test_a_login_that_lies_lets_nobody_in(hub: Hub, provider: Scripted, case: str) -> None:
    part, change = LIES[case]
    provider.lies[part] = change
    browser = Browser(hub, provider, another(hub))
    answer = await browser.http.get("/sign-in/start")
    if answer.status_code == 303:
        answer = await browser.back(provider.authorize(answer.headers["location"], "ana"))
    await browser.refused(answer)
    assert not re.search(r"evil|another-client|192\.0|Traceback", answer.text)


async def test_an_address_that_nobody_verified_is_nobodys(company: Company, provider: Scripted) -> None:
    provider.hire("eve", email="ana@acme.example", email_verified=False)
    more = '[provider.groups]\npeople = { "ana@acme.example" = ["finance"] }\n'
    async with opened(configured(company, provider, more)) as hub:
        browser = Browser(hub, provider, another(hub))
        await browser.sign_in("eve")
        session = await browser.session()
    assert session is not None
    assert session.facts.email is None
    assert session.facts.groups == ()


async def test_an_address_as_the_persons_id_must_be_verified(company: Company, provider: Scripted) -> None:
    provider.hire("eve", email="ana@acme.example", email_verified=False)
    async with opened(configured(company, provider, '[provider.claims]\nsub = "email"\n')) as hub:
        browser = Browser(hub, provider, another(hub))
        await browser.refused(await browser.sign_in("eve"))


BROWSERS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "with no cookie": lambda cookies: {},
    "with a cookie that was changed": lambda cookies: {name: value[:-2] + "AA" for name, value in cookies.items()},
    "with a cookie that is not sealed": lambda cookies: dict.fromkeys(cookies, '{"state": ""}'),
    "with the cookie under another's name": lambda cookies: {f"{name}x": value for name, value in cookies.items()},
}


@pytest.mark.parametrize("case", BROWSERS)
async def test_an_answer_counts_in_the_browser_that_began_alone(browser: Browser, hub: Hub, case: str) -> None:
    """Login CSRF: an attacker's own answer, or a stolen one, opened in somebody's browser."""
    answer = browser.provider.authorize(await browser.begin(), "eve")
    cookies = BROWSERS[case](dict(browser.http.cookies))
    victim = Browser(hub, browser.provider, another(hub))
    victim.http.cookies.update(cookies)
    await victim.refused(await victim.back(answer))


async def test_a_cookie_of_one_attempt_serves_no_other(browser: Browser) -> None:
    first, second = await browser.begin(), await browser.begin()
    one, two = browser.provider.authorize(first, "ana"), browser.provider.authorize(second, "eve")
    mixed = {**one, "code": two["code"]}
    await browser.refused(await browser.back(mixed))


async def test_a_cookie_that_came_twice_is_none(browser: Browser) -> None:
    """Cookie tossing: a neighbour sets another beside ours."""
    answer = browser.provider.authorize(await browser.begin(), "ana")
    [(name, value)] = browser.http.cookies.items()
    stranger = another(browser.hub)
    tossed = await stranger.get(f"{CALLBACK}?{urlencode(answer)}", headers={"cookie": f"{name}={value}; {name}=x"})
    await browser.refused(tossed)


async def test_an_attempt_of_another_instance_is_none(browser: Browser, company: Company, provider: Scripted) -> None:
    answer = provider.authorize(await browser.begin(), "ana")
    [value] = browser.http.cookies.values()
    async with opened(configured(company, provider)) as elsewhere:
        other = Browser(elsewhere, provider, another(elsewhere))
        await other.begin()
        [name] = dict(other.http.cookies)
        state = dict(parse_qsl(urlsplit(await other.begin()).query))["state"]
        other.http.cookies.clear()
        other.http.cookies.set(name, value)
        await other.refused(await other.back({**answer, "state": state}))


async def test_a_browser_that_is_sent_off_again_and_again_keeps_few_cookies(browser: Browser) -> None:
    """A page elsewhere can begin sign-ins in anybody's browser; requests with too many cookies would be refused."""
    for _ in range(3 * MOST_ATTEMPTS):
        await browser.begin()
    assert len(browser.http.cookies) <= MOST_ATTEMPTS + 1
    assert (await browser.sign_in()).status_code in (200, 303)
    assert await browser.session() is not None


async def test_an_answer_counts_once(browser: Browser, hub: Hub) -> None:
    url = await browser.begin()
    kept = dict(browser.http.cookies)
    answer = browser.provider.authorize(url, "ana")
    await browser.back(answer)
    replayed = Browser(hub, browser.provider, another(hub))
    replayed.http.cookies.update(kept)
    await replayed.refused(await replayed.back(answer))


@pytest.mark.parametrize("name", ["code", "state", "iss"])
async def test_a_parameter_that_came_twice_is_none(browser: Browser, name: str) -> None:
    answer = browser.provider.authorize(await browser.begin(), "ana")
    twice = f"{urlencode(answer)}&{name}={answer[name]}"
    await browser.refused(await browser.back(twice))


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "x",
        "",
    ],
)
async def test_signing_in_leads_nowhere_else(browser: Browser, then: str) -> None:
    started = await browser.http.get("/sign-in/start", params={"continue": then})
    answer = await browser.back(browser.provider.authorize(started.headers["location"], "ana"))
    assert not answer.headers.get("location", "/").startswith(("http", "//", "/\\"))
    assert "evil.example" not in answer.text
    assert "javascript:" not in answer.text


async def test_a_sign_in_is_always_a_new_session(browser: Browser) -> None:
    """Session fixation: a cookie that was planted before is worth nothing after."""
    name = browser.hub.parts.identity.cookie.name
    browser.http.cookies.set(name, "planted-by-an-attacker")
    url = await browser.begin()
    browser.http.cookies.delete(name)
    await browser.back(browser.provider.authorize(url, "ana"))
    found = browser.http.cookies.get(name)
    assert found is not None
    assert found != "planted-by-an-attacker"
    assert len(found) >= 43


def _header(**values: Any) -> dict[str, Change]:
    return {"header": changed(**values)}


def _claims(**values: Any) -> dict[str, Change]:
    return {"claims": changed(**values)}


LOGOUTS: dict[str, dict[str, Change]] = {
    "another issuer": _claims(iss="https://evil.example"),
    "another audience": _claims(aud="another-client"),
    "no audience": _claims(aud=None),
    "with a nonce": _claims(nonce="x"),
    "no event": _claims(events=None),
    "another event": _claims(events={"http://schemas.openid.net/event/other": {}}),
    "an event that is no object": _claims(events={EVENT: True}),
    "events as a list": _claims(events=[EVENT]),
    "nobody": _claims(sub=None),
    "a person that is a list": _claims(sub=["ana"]),
    "no id": _claims(jti=None),
    "old": _claims(iat=int(time.time()) - 3600),
    "not yet issued": _claims(iat=int(time.time()) + 3600),
    "no time of issue": _claims(iat=None),
    "expired": _claims(exp=int(time.time()) - 60),
    "alg none": _header(alg="none"),
    "HS256 by the public key": _header(alg="HS256"),
    "an access token": _header(typ="at+jwt"),
    "another key": _header(kid=OTHER.kid),
}


async def told(hub: Hub, token: str, **more: str) -> httpx2.Response:
    return await hub.public.post("/sign-in/back-channel", data={"logout_token": token, **more})


@pytest.mark.parametrize("case", LOGOUTS)
async def test_a_sign_out_that_the_login_did_not_tell_of_ends_nothing(browser: Browser, case: str) -> None:
    await browser.sign_in()
    answer = await told(browser.hub, browser.provider.logout_token(sub="ana", **LOGOUTS[case]))
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert await browser.session() is not None


async def test_an_id_token_is_no_logout_token(browser: Browser) -> None:
    await browser.sign_in()
    now = int(time.time())
    claims = {"iss": browser.provider.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "sub": "ana"}
    for extra in ({}, {"jti": uuid.uuid4().hex}):
        assert (await told(browser.hub, browser.provider.sign({**claims, **extra}))).status_code == 400
    assert await browser.session() is not None


async def test_a_sign_out_that_was_told_counts_once(browser: Browser) -> None:
    await browser.sign_in()
    token = browser.provider.logout_token(sub="ana")
    assert (await told(browser.hub, token)).status_code == 200
    assert await browser.session() is None
    await browser.sign_in()
    assert (await told(browser.hub, token)).status_code == 400
    assert await browser.session() is not None


@pytest.mark.parametrize("named", [{"sub": "ana"}, {"sid": "at-ana"}, {"sub": "ana", "sid": "at-ana"}])
async def test_a_sign_out_at_the_login_ends_that_persons_sessions_alone(
    browser: Browser, hub: Hub, named: dict[str, str]
) -> None:
    eve = Browser(hub, browser.provider, another(hub))
    await browser.sign_in()
    await eve.sign_in("eve")
    assert (await told(hub, browser.provider.logout_token(**named))).status_code == 200
    assert await browser.session() is None
    assert await eve.session() is not None


async def test_a_sign_out_of_a_session_reaches_a_sign_in_of_which_the_login_told_none(
    browser: Browser, hub: Hub, provider: Scripted
) -> None:
    """Its id tokens have no `sid`, its logout tokens have: what is meant is known by the person alone."""
    provider.lies["claims"] = changed(sid=None)
    eve = Browser(hub, provider, another(hub))
    await browser.sign_in()
    await eve.sign_in("eve")
    assert (await told(hub, provider.logout_token(sub="ana", sid="of-which-nothing-was-said"))).status_code == 200
    assert await browser.session() is None
    assert await eve.session() is not None


BODIES = ["", "logout_token=", "logout_token=x", "logout_token=a.b.c&logout_token=a.b.c", "x" * 70_000, "%ff=%ff"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_what_is_no_logout_token_is_refused_in_order(hub: Hub, body: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await hub.public.post("/sign-in/back-channel", content=body, headers=headers)
    assert answer.status_code in (400, 413)


async def test_another_login_finds_no_session_of_the_last(company: Company, provider: Scripted) -> None:
    """Whoever moves from the demo to a login must not have the demo's people come along."""
    async with opened(company) as demo:
        identity = demo.parts.identity
        assert identity.demo is not None
        _session, secret = await identity.sessions.open(identity.demo.sign_in("ana"), "a browser")
        assert await identity.sessions.find(secret) is not None
    async with opened(configured(company, provider)) as hub:
        assert await hub.parts.identity.sessions.find(secret) is None
        assert hub.parts.identity.demo is None


WAYS = ["/sign-in", "/sign-in/start"]


@pytest.mark.parametrize("signed_in", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_no_page_of_another_site_leads_past_the_click_by_way_of_the_login(
    browser: Browser, way: str, signed_in: bool
) -> None:
    """The login lets in whom it knows in silence, and the way on from there begins at a page of ours."""
    if signed_in:
        await browser.sign_in()
    client = StockClient(URL, browser.http, client_id="pegboard-cli", redirect="http://127.0.0.1:9/callback")
    asked = client.authorization("api").removeprefix(URL)
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
    answer = await browser.http.get(way, params={"continue": asked}, headers=headers)
    if answer.is_redirect:
        answer = await browser.http.get(answer.headers["location"], headers=headers)
    assert (answer.status_code, onward_of(answer)) == (200, "")
    ours = await browser.http.get(way, params={"continue": asked}, headers={**headers, "Sec-Fetch-Site": "none"})
    assert ours.is_redirect or signed_in


PAGES = ["/", "/explain", "/ledger", "/servers/prod/presto", "/consent?client_id=x"]


async def test_a_page_shows_what_the_login_says_now(
    browser: Browser, hub: Hub, provider: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session lives for a week, and a lost group no longer than a token does."""
    await browser.sign_in()
    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    assert "run_query" in (await browser.http.get("/servers/prod/presto/tools")).text
    provider.hire("ana")
    assert "run_query" not in (await browser.http.get("/servers/prod/presto/tools")).text


@pytest.mark.parametrize("page", PAGES)
async def test_who_has_left_sees_no_page(
    browser: Browser, hub: Hub, provider: Scripted, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    await browser.sign_in()
    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    del provider.people["ana"]
    answer = await browser.http.get(page)
    assert (answer.status_code, answer.headers.get("location", "").partition("?")[0]) == (303, "/sign-in")
    assert await browser.session() is None


@pytest.mark.parametrize("page", PAGES)
async def test_while_the_login_is_away_a_page_believes_it_no_longer_than_a_token_does(
    browser: Browser, hub: Hub, provider: Scripted, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    await browser.sign_in()
    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    monkeypatch.setattr(provider, "down", True)
    assert (await browser.http.get(page)).status_code != 503
    session = await browser.session()
    assert session is not None
    async with hub.parts.database.write() as db:
        aged = session.facts_at_ms - MAX_LIFETIME_S * 1000
        await db.execute(update(sessions).where(sessions.c.sid == session.sid).values(facts_at_ms=aged))
    assert (await browser.http.get(page)).status_code == 503
    assert (await browser.http.get("/sessions")).status_code == 200


async def test_a_yes_to_a_client_counts_with_its_own_login_alone(company: Company, provider: Scripted) -> None:
    """With the demo anybody says yes as `ana`; the company's may be called so too."""
    async with opened(company) as demo:
        await demo.parts.identity.clients.consent("ana", "any", "tools")
        assert await demo.parts.identity.clients.consented("ana", "any", "tools")
    async with opened(configured(company, provider)) as hub:
        assert not await hub.parts.identity.clients.consented("ana", "any", "tools")
        await hub.parts.identity.clients.consent("ana", "any", "tools")
        assert await hub.parts.identity.clients.consented("ana", "any", "tools")
    async with opened(company) as demo:
        assert await demo.parts.identity.clients.consented("ana", "any", "tools")


async def test_nothing_of_a_sign_in_is_in_the_log_or_readable_in_the_database(
    browser: Browser, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await browser.sign_in()
    session = await browser.session()
    assert session is not None
    kept = [*browser.provider._refresh, *browser.provider._access, SECRET]
    for secret in kept:
        assert secret not in caplog.text
        assert secret not in session.renewal
        assert not [path for path in (root / "home").rglob("*") if path.is_file() and secret in _text(path)]


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")
