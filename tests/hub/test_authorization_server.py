"""Signing in as a client sees it: from a code to tokens bound to one server, renewed, and ended."""

from __future__ import annotations

import time

import anyio
import pytest
from starlette.requests import Request

from pegboard_hub.identity.oauth.authorize import led_here
from pegboard_hub.identity.person import LoginEnded, LoginUnavailable, PersonFacts, SignedIn
from tests.hub.company import API, PRESTO, URL, Company, Hub, opened
from tests.oauth import Browser, StockClient, claims_of, query_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


@pytest.fixture
def browser(hub: Hub) -> Browser:
    return Browser(URL, hub.public)


@pytest.fixture
def client(hub: Hub) -> StockClient:
    return StockClient(URL, hub.public)


async def test_metadata_says_what_a_client_needs_to_know(hub: Hub) -> None:
    document = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
    assert document["issuer"] == URL
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["client_id_metadata_document_supported"] is True
    assert document["authorization_response_iss_parameter_supported"] is True
    assert {document[f"{each}_endpoint"] for each in ("authorization", "token", "registration", "revocation")} == {
        f"{URL}/oauth/{path}" for path in ("authorize", "token", "register", "revoke")
    }


async def test_a_client_in_a_browser_may_ask_from_any_origin(hub: Hub) -> None:
    origin = {"Origin": "http://localhost:6274"}
    answers = [
        await hub.public.get("/.well-known/oauth-authorization-server", headers=origin),
        await hub.public.get("/.well-known/oauth-protected-resource/mcp/prod/presto", headers=origin),
        await hub.public.post("/oauth/token", data={"grant_type": "refresh_token"}, headers=origin),
        await hub.public.post("/oauth/register", json={}, headers=origin),
    ]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}
    assert not any("access-control-allow-credentials" in answer.headers for answer in answers)


async def test_a_code_is_exchanged_for_a_token_bound_to_the_one_server(client: StockClient, browser: Browser) -> None:
    await client.register()
    answer = query_of(await browser.authorize(client.authorization("prod/presto")))
    assert answer["state"] == "the-state"
    assert answer["iss"] == URL
    response = await client.exchange(answer["code"])
    assert response.headers["cache-control"] == "no-store"
    claims = claims_of(response.json()["access_token"])
    assert claims["aud"] == PRESTO
    assert (claims["sub"], claims["groups"], claims["email"]) == ("ana", ["ads-eng"], "ana@example.com")
    assert claims["client_id"] == client.client_id
    assert claims["scope"] == "tools"
    assert 0 < claims["exp"] - claims["iat"] <= 15 * 60


async def test_what_a_client_calls_itself_does_not_choose_its_surface(hub: Hub, browser: Browser) -> None:
    liar = StockClient(URL, hub.public, name="chat bot service pegboard-chat")
    assert claims_of((await liar.connect(browser, "prod/presto"))["access_token"])["surface"] == "cli"
    editor = StockClient(URL, hub.public, redirect="cursor://anysphere.cursor-retrieval/oauth/callback")
    assert claims_of((await editor.connect(browser, "prod/presto"))["access_token"])["surface"] == "ide"


async def test_the_tenth_server_is_as_silent_as_the_second(client: StockClient, browser: Browser) -> None:
    await client.connect(browser, "prod/presto")
    response = await browser.get(client.authorization("dev/scratch"))
    assert response.headers["location"].startswith(client.redirect)


async def test_a_client_that_registers_anew_for_each_server_is_asked_about_once(hub: Hub, browser: Browser) -> None:
    first, second = (
        StockClient(URL, hub.public, name="Editor", redirect=f"http://localhost:{n}/cb") for n in (1111, 2)
    )
    await first.connect(browser, "prod/presto")
    await second.register()
    assert (await browser.get(second.authorization("dev/scratch"))).headers["location"].startswith(second.redirect)


async def test_a_client_that_names_no_server_is_told_to(client: StockClient, browser: Browser) -> None:
    await client.register()
    answer = query_of(await browser.authorize(client.authorization("prod/presto", resource=None)))
    assert answer["error"] == "invalid_target"
    assert "say which server" in answer["error_description"]
    assert answer["iss"] == URL
    assert answer["state"] == "the-state"


async def test_a_refresh_token_is_exchanged_for_the_next(client: StockClient, browser: Browser) -> None:
    tokens = await client.connect(browser, "prod/presto")
    renewed = (await client.refresh(tokens["refresh_token"])).json()
    assert renewed["refresh_token"] != tokens["refresh_token"]
    before, after = claims_of(tokens["access_token"]), claims_of(renewed["access_token"])
    assert {name: after[name] for name in ("aud", "sid", "scope")} == {
        name: before[name] for name in ("aud", "sid", "scope")
    }
    assert (await client.refresh(renewed["refresh_token"])).status_code == 200


async def test_a_refresh_token_used_twice_ends_the_connection_for_both(
    hub: Hub, client: StockClient, browser: Browser
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    renewed = (await client.refresh(tokens["refresh_token"])).json()
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await client.refresh(renewed["refresh_token"])).json()["error"] == "invalid_grant"
    void = {claims_of(each["access_token"])["jti"] for each in (tokens, renewed)}
    assert hub.parts.identity.revocations.current.tokens == void


async def test_of_many_that_refresh_at_once_at_most_one_gets_a_token(client: StockClient, browser: Browser) -> None:
    tokens = await client.connect(browser, "prod/presto")
    answers: list[int] = []

    async def refresh() -> None:
        answers.append((await client.refresh(tokens["refresh_token"])).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(refresh)
    assert answers.count(200) <= 1


async def test_a_code_is_good_once_and_a_second_use_ends_what_the_first_got(
    hub: Hub, client: StockClient, browser: Browser
) -> None:
    await client.register()
    code = query_of(await browser.authorize(client.authorization("prod/presto")))["code"]
    tokens = (await client.exchange(code)).json()
    assert (await client.exchange(code)).json()["error"] == "invalid_grant"
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert claims_of(tokens["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens


async def test_sign_out_ends_everything_that_came_of_it(hub: Hub, client: StockClient, browser: Browser) -> None:
    tokens = [await client.connect(browser, server) for server in ("prod/presto", "dev/scratch")]
    sid = claims_of(tokens[0]["access_token"])["sid"]
    await hub.parts.identity.sessions.end(sid, "signed out")
    assert sid in hub.parts.identity.revocations.current.sessions
    assert {(await client.refresh(each["refresh_token"])).json()["error"] for each in tokens} == {"invalid_grant"}
    assert "/sign-in?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_the_connection(
    hub: Hub, client: StockClient, browser: Browser, which: str
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    assert (await client.revoke(tokens[which])).status_code == 200
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert claims_of(tokens["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens


async def test_pegboards_own_command_signs_in_once_for_every_server(hub: Hub, browser: Browser) -> None:
    command = StockClient(URL, hub.public, client_id="pegboard-cli")
    tokens = await command.connect(browser, "api")
    assert claims_of(tokens["access_token"])["aud"] == API
    answer = (await command.refresh(tokens["refresh_token"], resource=PRESTO)).json()
    assert claims_of(answer["access_token"])["aud"] == PRESTO


class Told:
    """A login that tells what a test wants."""

    name = "the test's login"
    issuer = "https://login.example"

    def __init__(self) -> None:
        self.groups: tuple[str, ...] = ("ads-eng",)
        self.trouble: Exception | None = None

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        if self.trouble:
            raise self.trouble
        return SignedIn(PersonFacts(facts.sub, facts.name, self.groups), facts.sub, renewal=renewal)


@pytest.fixture
def told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The hub's login, asked before every token."""
    login = Told()
    monkeypatch.setattr(hub.parts.identity.sessions, "login", login)
    monkeypatch.setattr(hub.parts.identity.sessions, "renew_after_s", -1)
    return login


async def test_a_lost_group_is_not_in_the_next_token(client: StockClient, browser: Browser, told: Told) -> None:
    tokens = await client.connect(browser, "prod/presto")
    told.groups = ()
    renewed = (await client.refresh(tokens["refresh_token"])).json()
    assert claims_of(renewed["access_token"])["groups"] == []


async def test_who_has_left_gets_no_token_and_what_they_had_is_revoked(
    hub: Hub, client: StockClient, browser: Browser, told: Told
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    told.trouble = LoginEnded("left")
    assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert claims_of(tokens["access_token"])["sid"] in hub.parts.identity.revocations.current.sessions


async def test_while_the_login_does_not_answer_nobody_gets_a_token_and_nobody_is_signed_out(
    client: StockClient, browser: Browser, told: Told
) -> None:
    tokens = await client.connect(browser, "prod/presto")
    told.trouble = LoginUnavailable("down")
    answer = await client.refresh(tokens["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    told.trouble = None
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200


async def test_who_asks_at_once_while_the_login_is_silent_waits_for_it_once(
    hub: Hub, client: StockClient, browser: Browser, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    sid, asked = claims_of((await client.connect(browser, "prod/presto"))["access_token"])["sid"], list[str]()

    async def silent(renewal: str, facts: PersonFacts) -> SignedIn:
        asked.append(facts.sub)
        await anyio.sleep(0.01)
        raise LoginUnavailable("silent")

    async def wait() -> None:
        with pytest.raises(LoginUnavailable):
            await hub.parts.identity.sessions.current(sid)

    monkeypatch.setattr(told, "renew", silent)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(wait)
    assert asked == ["ana"]
    await wait()
    assert asked == ["ana", "ana"]


@pytest.mark.parametrize(
    ("public_url", "site", "led"),
    [
        ("https://pegboard.acme.example", "cross-site", True),
        ("https://pegboard.acme.example", "same-site", True),
        ("https://pegboard.acme.example", "same-origin", False),
        ("https://pegboard.acme.example", "none", False),
        (URL, "cross-site", True),
        (URL, "same-site", False),
    ],
)
def test_a_page_beside_ours_leads_nobody_in_silence_but_on_ones_own_machine(
    public_url: str, site: str, led: bool
) -> None:
    """Whoever serves another name of the company's domain is another; on one machine every port is of one site."""
    scope = {"type": "http", "headers": [(b"sec-fetch-site", site.encode())]}
    assert led_here(Request(scope), {"redirect_uri": "http://127.0.0.1:9/callback"}, public_url) == led
    assert not led_here(Request(scope), {"redirect_uri": "https://app.example.com/cb"}, public_url)


async def test_a_token_ends_a_lifetime_after_its_groups_were_told(
    hub: Hub, client: StockClient, browser: Browser
) -> None:
    """So that a group that was lost since then is lost within that time, however often the token was renewed."""
    tokens = await client.connect(browser, "prod/presto")
    sessions = hub.parts.identity.sessions
    session = await sessions.get(claims_of(tokens["access_token"])["sid"])
    assert session is not None
    claims = claims_of((await client.refresh(tokens["refresh_token"])).json()["access_token"])
    assert claims["exp"] <= session.facts_at_ms / 1000 + 15 * 60
    assert claims["exp"] > time.time()


async def test_sign_ins_survive_a_restart_of_the_hub(company: Company) -> None:
    async with opened(company) as hub:
        client = StockClient(URL, hub.public, client_id="pegboard-cli")
        tokens = await client.connect(Browser(URL, hub.public), "api")
    async with opened(company) as hub:
        client.http = hub.public
        assert (await client.refresh(tokens["refresh_token"])).status_code == 200
