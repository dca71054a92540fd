"""A person's browser, under pages of other sites: forms that nobody meant, planted cookies, names that lie.

Rules (decision 22): a form counts only from our own page in the same browser;
a sign-in is always a new session; nothing leads off our origin but a registered redirect; a stranger's text is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import httpx2
import pytest

from tests.attacks.wire import send
from tests.oauth import Browser, StockClient, forms_of, onward_of
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

TOKEN = "form_token"
ZED = "Zed of the attacks"


@dataclass
class Stage:
    """A victim who is signed in with a client connected, and an attacker who has both as well.

    Attributes:
        stranger: the victim's browser before signing in.
    """

    url: str
    http: httpx2.AsyncClient
    victim: Browser
    attacker: Browser
    stranger: Browser
    client: StockClient
    refresh_token: str

    async def send(self, path: str, fields: dict[str, str], headers: dict[str, str | None]) -> httpx2.Response:
        """Send a form with the cookies of its victim."""
        browser = self.stranger if path == "/sign-in" else self.victim
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        self.http.cookies.clear()
        sent = {
            "cookie": cookies,
            "accept": "text/html",
            "origin": self.url,
            "sec-fetch-site": "same-origin",
            **headers,
        }
        given = {name: value for name, value in sent.items() if value is not None}
        return await self.http.post(self.url + path, data=fields, headers=given)

    async def untouched(self) -> bool:
        """Whether the victim is signed in as before with the client connected, and the stranger is not."""
        sessions = (await self.victim.get(f"{self.url}/sessions")).text
        stranger = (await self.stranger.get(f"{self.url}/")).text
        return ZED in sessions and "Signed in as" not in stranger


@pytest.fixture
async def stage(pegboard: Instance) -> AsyncIterator[Stage]:
    url = pegboard.public_url
    async with httpx2.AsyncClient(timeout=60) as http:
        victim, attacker, stranger = (Browser(url, http) for _ in range(3))
        client = StockClient(url, http, name=ZED)
        tokens = await client.connect(victim, "prod/presto", "ana")
        await StockClient(url, http, name=ZED).connect(attacker, "prod/presto", "fay")
        await stranger.get(f"{url}/sign-in")
        yield Stage(url, http, victim, attacker, stranger, client, tokens["refresh_token"])
        for browser in (victim, attacker):
            page = await browser.get(f"{url}/sign-out")
            if "Signed in as" in page.text:
                await browser.press(page, "Sign out of this browser")


FORMS = {
    "sign-in": ("/sign-in", "/sign-in"),
    "consent": ("/consent", "/consent"),
    "sign-out": ("/sign-out", "/sign-out"),
    "disconnect": ("/sessions", "/sessions/disconnect"),
    "sign out a device": ("/sessions", "/sessions/sign-out"),
}
"""Each form: the page that has it, and where it is sent."""


async def filled(stage: Stage, form: str, browser: Browser | None = None) -> tuple[str, dict[str, str]]:
    """Where a form is sent, with its fields as the page has them for a browser; by default the victim's."""
    page, action = FORMS[form]
    if page == "/consent":
        client = StockClient(stage.url, stage.http, name="Never allowed")
        await client.register()
        page = client.authorization("dev/scratch").removeprefix(stage.url).replace("/oauth/authorize", page)
    shown = await (browser or (stage.stranger if page == "/sign-in" else stage.victim)).get(stage.url + page)
    fields = next(each["fields"] for each in forms_of(shown) if each["action"] == action)
    return action, {**fields, **({"person": "fay"} if page == "/sign-in" else {"answer": "allow"})}


FROM_ELSEWHERE: dict[str, dict[str, str | None]] = {
    "another site": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "another site, in a browser that says only where from": {
        "origin": "https://evil.example",
        "sec-fetch-site": None,
    },
    "another site, without Origin": {"origin": None, "sec-fetch-site": "cross-site"},
    "another port of this machine": {"origin": "http://localhost:1", "sec-fetch-site": "same-site"},
    "another port, without Origin": {"origin": None, "sec-fetch-site": "same-site"},
    "the same name by another scheme": {"origin": "https://localhost", "sec-fetch-site": "cross-site"},
    "127.0.0.1 instead of localhost": {"origin": "http://127.0.0.1", "sec-fetch-site": "cross-site"},
    "a sandboxed frame": {"origin": "null", "sec-fetch-site": "cross-site"},
    "a sandboxed frame, without more": {"origin": "null", "sec-fetch-site": None},
    "an address typed in": {"origin": None, "sec-fetch-site": "none"},
    "nowhere at all": {"origin": None, "sec-fetch-site": None},
    "a name that begins like ours": {"origin": "{url}.evil.example", "sec-fetch-site": None},
    "ours and another's": {"origin": "{url}, https://evil.example", "sec-fetch-site": None},
    "ours, as another's word for it": {"origin": "{url}", "sec-fetch-site": "cross-site"},
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_form_from_elsewhere_does_nothing_even_with_the_right_token(stage: Stage, form: str) -> None:
    path, fields = await filled(stage, form)
    for case, headers in FROM_ELSEWHERE.items():
        sent = {name: value and value.replace("{url}", stage.url) for name, value in headers.items()}
        answer = await stage.send(path, fields, sent)
        assert answer.status_code == 403, (case, answer.text[:300])
        assert not answer.headers.get_list("set-cookie"), case
    assert await stage.untouched()


@pytest.mark.parametrize("form", FORMS)
async def test_a_form_without_this_browsers_token_for_it_does_nothing(stage: Stage, form: str) -> None:
    path, fields = await filled(stage, form)
    other = "sign-out" if form != "sign-out" else "disconnect"
    tokens = {
        "none": None,
        "an empty one": "",
        "another session's": (await filled(stage, form, stage.attacker))[1][TOKEN],
        "another form's": (await filled(stage, other))[1][TOKEN],
        "one of before signing in": (await filled(stage, "sign-in"))[1][TOKEN][::-1],
        "one letter wrong": ("A" if fields[TOKEN][0] != "A" else "B") + fields[TOKEN][1:],
        "not ASCII": "\u00fc" * 43,
    }
    for case, token in tokens.items():
        changed = {name: value for name, value in {**fields, TOKEN: token}.items() if value is not None}
        answer = await stage.send(path, changed, {})
        assert answer.status_code == 403, (case, answer.text[:300])
    assert await stage.untouched()


ODD_FORMS: dict[str, tuple[str, bytes]] = {
    "as text, as a form of another site can": ("text/plain", b"form_token={token}&x="),
    "as JSON": ("application/json", b'{"form_token":"{token}"}'),
    "in parts": ("multipart/form-data; boundary=x", b"--x\r\n"),
    "the token twice": ("application/x-www-form-urlencoded", b"form_token={token}&form_token={token}"),
    "no form at all": ("application/x-www-form-urlencoded", b"\xff\xfe=%ff"),
    "very long": ("application/x-www-form-urlencoded", b"form_token={token}&x=" + b"a" * 100_000),
    "of very many fields": ("application/x-www-form-urlencoded", b"form_token={token}" + b"&a=" * 1_000),
}


@pytest.mark.parametrize("case", ODD_FORMS)
async def test_a_form_that_no_page_of_ours_sends_does_nothing(stage: Stage, case: str) -> None:
    kind, body = ODD_FORMS[case]
    path, fields = await filled(stage, "sign-out")
    cookies = "; ".join(f"{name}={value}" for name, value in stage.victim.cookies.items())
    headers = {"cookie": cookies, "origin": stage.url, "sec-fetch-site": "same-origin", "content-type": kind}
    content = body.replace(b"{token}", fields[TOKEN].encode())
    answer = await stage.http.post(stage.url + path, content=content, headers=headers)
    assert answer.status_code in (400, 413, 415), answer.text
    assert await stage.untouched()


@pytest.mark.parametrize("path", ["/sessions/disconnect", "/sessions/sign-out"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_link_or_an_image_changes_nothing(stage: Stage, path: str, method: str) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in stage.victim.cookies.items())
    headers = {"cookie": cookies, "x-http-method-override": "POST"}
    answer = await stage.http.request(method, f"{stage.url}{path}?session=all&_method=POST", headers=headers)
    assert answer.status_code == 405
    assert await stage.untouched()


async def test_a_planted_cookie_does_not_become_the_session(stage: Stage) -> None:
    name = next(each for each in stage.victim.cookies if not each.endswith("_form"))
    for planted in ("x" * 43, stage.attacker.cookies[name]):
        browser = Browser(stage.url, stage.http, cookies={name: planted})
        await browser.press(await browser.get(f"{stage.url}/sign-in"), "ana")
        assert browser.cookies[name] != planted
        watching = Browser(stage.url, stage.http, cookies={name: planted})
        assert "Signed in as <strong><bdi>Ana" not in (await watching.get(f"{stage.url}/")).text
        await browser.press(await browser.get(f"{stage.url}/sign-out"), "Sign out of this browser")


async def test_a_login_form_filled_in_by_the_attacker_signs_nobody_in(stage: Stage) -> None:
    path, fields = await filled(stage, "sign-in", Browser(stage.url, stage.http))
    answer = await stage.send(path, fields, {})
    assert answer.status_code == 403, "the attacker's token, from a page of ours"
    answer = await stage.send(path, fields, {"origin": "https://evil.example", "sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert await stage.untouched()


COOKIES = {
    "ours and a planted one": "{name}={secret}; {name}=planted",
    "a planted one before ours": "{name}=planted; {name}={secret}",
    "ours and the attacker's session": "{name}={attacker}; {name}={secret}",
    "ours, twice": "{name}={secret}; {name}={secret}",
    "under another instance's name": "pegboard_aaaaaaaaaaaa={secret}",
    "under the name it has over TLS": "__Host-{name}={secret}",
    "in other letters": "{NAME}={secret}",
    "beside the form's": "{name}_form={secret}",
    "in quotes": '{name}="{secret}"',
    "its digest": "{name}={digest}",
    "empty": "{name}=",
    "none": "",
}


@pytest.mark.parametrize("case", COOKIES)
async def test_a_cookie_that_was_tampered_with_is_no_session(stage: Stage, case: str) -> None:
    name = next(each for each in stage.victim.cookies if not each.endswith("_form"))
    words = {"name": name, "NAME": name.upper(), "secret": stage.victim.cookies[name], "digest": "a" * 64}
    cookie = COOKIES[case].format(attacker=stage.attacker.cookies[name], **words)
    for path in ("/", "/sessions"):
        answer = await stage.http.get(stage.url + path, headers={"cookie": cookie, "accept": "text/html"})
        assert "Signed in as" not in answer.text
        assert ZED not in answer.text


ELSEWHERE = [
    "https://evil.example/",
    "http:evil.example",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\/evil.example/",
    "/\t/evil.example/",
    "/\n/evil.example/",
    "\x00//evil.example/",
    " //evil.example/",
    "/%2f%2fevil.example/",
    "/%5cevil.example/",
    "/%09/evil.example/",
    "/%252f%252fevil.example/",
    "/.//evil.example/",
    "/..//evil.example/",
    "/%2e%2e//evil.example/",
    "/a/../..//evil.example/",
    "/;//evil.example/",
    "/\u2215/evil.example/",
    "/\uff0fevil.example/",
    "/#//evil.example/",
    "/ledger\r\nSet-Cookie: a=b",
    "/ledger%0d%0aSet-Cookie:%20a=b",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "@evil.example",
    ".evil.example",
    "/sign-in?continue=//evil.example/",
    "/sign-out",
    "/" + "a" * 10_000,
]


@pytest.mark.parametrize("target", ELSEWHERE)
async def test_signing_in_leads_nowhere_else(stage: Stage, target: str) -> None:
    browser = Browser(stage.url, stage.http)
    page = await browser.get(f"{stage.url}/sign-in?continue={quote(target, safe='')}")
    assert "evil.example" not in page.text
    for given in ({}, {"continue": target}):
        answer = await browser.press(page, "gus", **given)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        page = await browser.get(f"{stage.url}/sign-in")
    await browser.press(await browser.get(f"{stage.url}/sign-out"), "Sign out of this browser")


AUTHORIZATIONS = {
    "a client that nobody knows": {"client_id": "nobody"},
    "a redirect that is not its own": {"redirect_uri": "https://evil.example/"},
}


@pytest.mark.parametrize("case", AUTHORIZATIONS)
@pytest.mark.parametrize("endpoint", ["/oauth/authorize", "/consent"])
async def test_the_page_of_a_bad_request_leads_nowhere(stage: Stage, case: str, endpoint: str) -> None:
    request = stage.client.authorization("prod/presto", **AUTHORIZATIONS[case])
    answer = await stage.victim.get(request.replace("/oauth/authorize", endpoint))
    assert answer.status_code == 400
    assert not onward_of(answer)
    assert not re.search(r'(?:href|action|src|url)="?[^" ]*evil\.example', answer.text)


PAGES = [
    "/",
    "/explain",
    "/ledger",
    "/sign-in",
    "/sign-out",
    "/sessions",
    "/consent",
    "/consent?client_id=x",
    "/oauth/authorize",
    "/nothing",
    "/api/v1/whoami",
    "/static/pegboard.css",
]


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_can_be_framed_scripted_or_kept(stage: Stage, path: str) -> None:
    for browser in (stage.victim, stage.stranger):
        answer = await browser.get(stage.url + path)
        policies = answer.headers.get_list("content-security-policy")
        assert len(policies) == 1
        assert "default-src 'none'" in policies[0]
        assert "frame-ancestors 'none'" in policies[0]
        assert "form-action 'self';" in policies[0]
        assert "unsafe" not in policies[0]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        opened = path.startswith(("/sign-in", "/consent", "/oauth/authorize"))
        assert answer.headers["cross-origin-opener-policy"] == ("unsafe-none" if opened else "same-origin")
        if answer.status_code < 300 and not path.startswith("/static/"):
            assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in answer.text
        assert not [name for name in answer.headers if name.startswith("access-control-")]


NAMES = {
    "markup": "<script>alert(1)</script><h1>Pay</h1>",
    "an attribute": "\"><img src=x onerror=alert(1)>'",
    "a template": "{{7*7}}{% raw %}",
    "an entity": "&lt;b&gt;&#x3C;b>",
    "text from right to left": "Visual Studio \u202eedoC\u202c",
    "an isolate that never ends": "Zed\u2067 \u2066",
    "nothing that shows": "\u200b\u2060\ufeff\u3164",
    "a new line and a heading": "Zed\n\nApproved by the platform team",
    "an escape": "Zed\x1b[31m\x07\x00",
    "very long": "W" * 5_000,
    "marks that run over": "Z" + "\u0336\u0489" * 200,
    "a lone surrogate": "Zed\ud800",
}


@pytest.mark.parametrize("case", NAMES)
async def test_a_clients_name_stays_a_name(stage: Stage, case: str) -> None:
    document = {"client_name": NAMES[case], "redirect_uris": ["http://127.0.0.1/callback"]}
    body = json.dumps(document).encode()
    answer = await stage.http.post(
        f"{stage.url}/oauth/register", content=body, headers={"content-type": "application/json"}
    )
    if answer.status_code == 400:
        return  # not even registered
    client = StockClient(stage.url, stage.http, client_id=answer.json()["client_id"])
    page = await stage.victim.get(client.authorization("prod/presto").replace("/oauth/authorize", "/consent"))
    assert page.status_code == 200
    name = page.text.partition('<bdi class="theirs">')[2].partition("</bdi>")[0]
    assert 0 < len(name) < 1_000
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]", page.text
    )
    assert "<" not in name
    assert "49" not in name
    assert "<img" not in name
    assert page.text.count("<h1>") == 1
    assert "Nobody has checked that name." in page.text


ALIKE = [
    "Pegboard",
    "pegboard-cli",
    "PEGBOARD command",
    "Peg board",
    "Pegb\u043eard",
    "\u0420egboard",
    "Pegbo\u0430rd",
    "\uff30\uff45\uff47\uff42\uff4f\uff41\uff52\uff44",
    "P\u0301egboard",
    "Peg\u200bboard",
    "Pegb0ard",
    "P.e.g.b.o.a.r.d",
    "\U0001d40f\U0001d41e\U0001d420\U0001d41b\U0001d428\U0001d41a\U0001d42b\U0001d41d",
]


@pytest.mark.parametrize("name", ALIKE)
async def test_a_client_that_poses_as_pegboard_is_told_apart(stage: Stage, name: str) -> None:
    client = StockClient(stage.url, stage.http, name=name)
    await client.register()
    page = await stage.victim.get(client.authorization("prod/presto").replace("/oauth/authorize", "/consent"))
    assert "This is not Pegboard’s own." in page.text


HOSTS = {
    "a rebound name": (["Host: evil.example"], 421),
    "a rebound name with our port": (["Host: evil.example:{port}"], 421),
    "our name as a subdomain": (["Host: localhost.evil.example"], 421),
    "our name before another": (["Host: localhost@evil.example"], 421),
    "another port": (["Host: localhost:1"], 421),
    "a dot at its end": (["Host: localhost.:{port}"], 421),
    "the address itself": (["Host: 127.0.0.1:{port}"], 421),
    "two": (["Host: localhost:{port}", "Host: evil.example"], 421),
    "none": ([], 400),
}


@pytest.mark.parametrize("case", HOSTS)
@pytest.mark.parametrize("line", ["GET /sign-in HTTP/1.1", "POST /sign-in HTTP/1.1", "GET /oauth/authorize HTTP/1.1"])
async def test_under_another_name_there_are_no_pages(pegboard: Instance, case: str, line: str) -> None:
    hosts, status = HOSTS[case]
    port = pegboard.public_url.rpartition(":")[2]
    lines = [line, *(host.format(port=port) for host in hosts), "Connection: close", "Content-Length: 0"]
    answer = send(pegboard, lines)
    assert answer.status == status, answer.text
    assert "set-cookie" not in answer.text.lower()


TOLD_HOSTS = [
    {"x-forwarded-host": "evil.example"},
    {"x-forwarded-proto": "https", "x-forwarded-port": "1"},
    {"forwarded": "host=evil.example;proto=https"},
    {"x-original-url": "/sessions", "x-rewrite-url": "/sessions"},
    {"x-host": "evil.example", "referer": "https://evil.example/"},
]


@pytest.mark.parametrize("headers", TOLD_HOSTS)
async def test_what_a_header_says_of_our_name_leads_nowhere(stage: Stage, headers: dict[str, str]) -> None:
    for path in ("/sessions", "/sign-in", "/oauth/authorize?client_id=x"):
        answer = await stage.http.get(stage.url + path, headers={"accept": "text/html", **headers})
        assert "evil.example" not in answer.text
        assert urljoin(stage.url, answer.headers.get("location", "/")).startswith(f"{stage.url}/")
