"""The authorization server under callers who send what no client would, against the whole stack.

Rules (design, Rules of trust; RFC 9700, RFC 7636, RFC 8707, RFC 9207): a code and a refresh token are good once, for
whom they were made, and for one server; answers go where the client registered and nowhere else; logs hold no secret.
CSRF and pages are in `test_browser_attacks.py`, client documents in `test_client_attacks.py`, the company's login in
`test_login_attacks.py`, codes to type in `test_device_attacks.py`, revoked tokens in `test_revocation_attacks.py`.
"""

from __future__ import annotations

import base64
import html
import json
import re
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import anyio
import httpx2
import pytest

from tests.attacks.wire import ACCEPT, META, MODERN, send
from tests.leaks import holding
from tests.oauth import REDIRECT, Browser, StockClient, challenge, claims_of, onward_of, query_of
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

HTTPS_REDIRECT = "https://editor.example/callback?from=pegboard"
APP_REDIRECT = "cursor://anysphere.cursor-retrieval/oauth/callback"


@dataclass
class Stage:
    """Ana, signed in; an editor that she let in for both servers; and another client of the attacker's."""

    pegboard: Instance
    http: httpx2.AsyncClient
    browser: Browser
    editor: StockClient
    other: StockClient
    secrets: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The instance's origin."""
        return self.pegboard.public_url

    async def code(self, server: str = "prod/presto", **changes: str | None) -> str:
        """A code for the editor."""
        answer = query_of(await self.browser.authorize(self.editor.authorization(server, **changes)))
        return answer["code"]

    async def tokens(self, server: str = "prod/presto") -> dict[str, Any]:
        """Tokens of the editor's."""
        return await self.editor.connect(self.browser, server)

    async def asked(self, **changes: str | None) -> tuple[httpx2.Response, dict[str, str]]:
        """What an authorization request of the editor's is answered with here, and what it tells the client."""
        return await self.opened(self.editor.authorization("prod/presto", **changes))

    async def opened(self, url: str, **headers: str) -> tuple[httpx2.Response, dict[str, str]]:
        """One address in Ana's browser: the answer here, and what it tells a client it leads on to."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.browser.cookies.items())
        self.http.cookies.clear()
        response = await self.http.get(url, headers={"cookie": cookie, "accept": "text/html", **headers})
        target = urljoin(url, onward_of(response))
        leaves = target != url and not target.startswith(f"{self.url}/")
        return response, query_of(target) if leaves else {}

    async def remember(self, response: httpx2.Response) -> None:
        """Note every secret that was given out, to look for in the home's files."""
        body = await response.aread()
        self.secrets.update(query_of(onward_of(response)).get("code", "").split())
        self.secrets.update(
            header.partition("=")[2].partition(";")[0].strip('"')
            for header in response.headers.get_list("set-cookie")
        )
        if response.headers.get("content-type") == "application/json" and b"_token" in body:
            found = response.json()
            self.secrets.update(str(found[name]) for name in ("access_token", "refresh_token") if name in found)


@pytest.fixture(scope="module")
async def stage(pegboard: Instance) -> AsyncIterator[Stage]:
    url = pegboard.public_url
    async with httpx2.AsyncClient(timeout=60) as http:
        found = Stage(
            pegboard,
            http,
            Browser(url, http),
            StockClient(url, http, name="Attacked editor"),
            StockClient(url, http, name="Attacker's client", redirect="http://127.0.0.1:43210/attack"),
        )
        http.event_hooks = {"response": [found.remember]}
        await found.browser.sign_in("ana")
        await found.other.register()
        for server in ("prod/presto", "dev/scratch"):
            await found.editor.connect(found.browser, server)
        yield found


def refused(response: httpx2.Response, *errors: str) -> None:
    """An OAuth error, and nothing else."""
    assert response.status_code in (400, 401), response.text
    assert "access_token" not in response.text
    assert not errors or response.json()["error"] in errors, response.text


# Codes

LOOKED_AT: dict[str, dict[str, str | None]] = {
    "another client's": {"client_id": "{other}"},
    "the command's": {"client_id": "pegboard-cli"},
    "to another redirect": {"redirect_uri": "http://127.0.0.1:1/callback"},
    "to another path": {"redirect_uri": f"{REDIRECT}/"},
    "without its redirect": {"redirect_uri": None},
    "with another verifier": {"code_verifier": "x" * 43},
    "with its challenge for a verifier": {"code_verifier": "{challenge}"},
    "for another server": {"resource": "{url}/mcp/dev/scratch"},
    "for the API": {"resource": "{url}/api"},
    "for nobody's server": {"resource": "https://evil.example/mcp"},
}
"""Wrong tries that use a code up."""

NOT_LOOKED_AT: dict[str, dict[str, str | None]] = {
    "nobody's": {"client_id": "nobody"},
    "without a client": {"client_id": None},
    "of a client in capitals": {"client_id": "PEGBOARD-CLI"},
    "of a client with a zero": {"client_id": "pegboard-cli\0"},
    "without a verifier": {"code_verifier": None},
    "with a short verifier": {"code_verifier": "x"},
    "with a verifier of 42": {"code_verifier": "x" * 42},
    "with a verifier of 129": {"code_verifier": "x" * 129},
    "with a verifier of other letters": {"code_verifier": "é" * 43},
    "with spaces for a verifier": {"code_verifier": " " * 43},
    "without a code": {"code": None},
    "with another code": {"code": secrets.token_urlsafe(32)},
    "with a zero in the code": {"code": "\0"},
    "for a code in UTF-16": {"code": "\ud800".encode("utf-16", "surrogatepass").hex()},
    "as a refresh token": {"grant_type": "refresh_token", "refresh_token": "{code}"},
    "as a device code": {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "{code}"},
    "as an assertion": {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "{code}"},
    "of a grant in capitals": {"grant_type": "AUTHORIZATION_CODE"},
    "of no grant": {"grant_type": None},
}


def filled(stage: Stage, changes: dict[str, str | None], code: str = "") -> dict[str, str | None]:
    """The changes of a case with this run's own values in them."""
    marks = {
        "{other}": stage.other.client_id,
        "{challenge}": challenge(stage.editor.verifier),
        "{url}": stage.url,
        "{URL}": stage.url.upper(),
        "{port}": stage.url.rpartition(":")[2],
        "{code}": code,
    }
    found = dict(changes)
    for name, value in changes.items():
        for mark, text in marks.items():
            value = value and value.replace(mark, text)
        found[name] = value
    return found


@pytest.mark.parametrize("case", LOOKED_AT)
async def test_a_wrong_try_gets_nothing_and_uses_the_code_up(stage: Stage, case: str) -> None:
    code = await stage.code()
    refused(await stage.editor.exchange(code, **filled(stage, LOOKED_AT[case])))
    refused(await stage.editor.exchange(code), "invalid_grant")


@pytest.mark.parametrize("case", NOT_LOOKED_AT)
async def test_what_is_no_request_for_a_code_gets_nothing(stage: Stage, case: str) -> None:
    code = await stage.code()
    changes = filled(stage, NOT_LOOKED_AT[case], code)
    refused(await stage.editor.exchange(**{"code": code, **changes}))


async def test_a_code_is_good_once_however_many_try_at_once(stage: Stage) -> None:
    code, answers = await stage.code(), list[httpx2.Response]()

    async def exchange() -> None:
        answers.append(await stage.editor.exchange(code))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(exchange)
    got = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(got) <= 1
    for tokens in got:
        refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_code_of_the_attackers_gives_the_victims_client_nothing(stage: Stage) -> None:
    """Injected into the redirect of a client that has a verifier of its own (RFC 9700 §4.5)."""
    attacker = StockClient(stage.url, stage.http, client_id=stage.editor.client_id)
    browser = Browser(stage.url, stage.http)
    await browser.sign_in("fay")
    injected = query_of(await browser.authorize(attacker.authorization("prod/presto"), "fay"))["code"]
    await stage.code()
    refused(await stage.editor.exchange(injected), "invalid_grant")


async def test_a_code_ends_with_the_sign_in_that_it_came_of(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    client = StockClient(stage.url, stage.http, client_id="pegboard-cli", redirect="http://127.0.0.1:9/callback")
    code = query_of(await browser.authorize(client.authorization("api"), "sam"))["code"]
    await signed_out(browser)
    refused(await client.exchange(code), "invalid_grant")


async def signed_out(browser: Browser) -> None:
    """Press the button that a person signs out with."""
    page = await browser.get(f"{browser.url}/sign-out")
    await browser.press(page, "Sign out of this browser")


# PKCE

DOWNGRADES: dict[str, dict[str, str | None]] = {
    "plain": {"code_challenge_method": "plain"},
    "no method, which is plain": {"code_challenge_method": None},
    "an empty method": {"code_challenge_method": ""},
    "a method in small letters": {"code_challenge_method": "s256"},
    "another hash": {"code_challenge_method": "S512"},
    "two methods": {"code_challenge_method": "S256 plain"},
    "no challenge": {"code_challenge": None},
    "an empty challenge": {"code_challenge": ""},
    "neither": {"code_challenge": None, "code_challenge_method": None},
    "a short challenge": {"code_challenge": "x" * 42},
    "a long challenge": {"code_challenge": "x" * 44},
    "a very long challenge": {"code_challenge": "x" * 4000},
    "a padded challenge": {"code_challenge": "x" * 42 + "="},
    "a challenge with a line end": {"code_challenge": "x" * 43 + "\n"},
    "a challenge of other letters": {"code_challenge": "é" * 43},
    "a challenge of base64's other alphabet": {"code_challenge": "+/" * 21 + "x"},
}


@pytest.mark.parametrize("case", DOWNGRADES)
async def test_no_code_without_a_challenge_of_s256(stage: Stage, case: str) -> None:
    response, answer = await stage.asked(**DOWNGRADES[case])
    assert "code" not in answer
    assert answer["error"] == "invalid_request", response.text
    assert (answer["iss"], answer["state"]) == (stage.url, "the-state")


async def test_a_verifier_that_equals_its_challenge_is_refused(stage: Stage) -> None:
    same = "x" * 43
    code = await stage.code(code_challenge=same)
    refused(await stage.editor.exchange(code, code_verifier=same), "invalid_grant")


@pytest.mark.parametrize("verifier", ["x", "x" * 42, "é" * 43, "x" * 129])
async def test_a_verifier_that_is_none_is_refused_though_its_challenge_is_right(stage: Stage, verifier: str) -> None:
    code = await stage.code(code_challenge=challenge(verifier))
    refused(await stage.editor.exchange(code, code_verifier=verifier), "invalid_request")


# Where answers go

ELSEWHERE = [
    "http://127.0.0.1:43210/callback/",
    "http://127.0.0.1:43210/callback/../evil",
    "http://127.0.0.1:43210/callback/%2e%2e/evil",
    "http://127.0.0.1:43210/callback%2f..%2fevil",
    "http://127.0.0.1:43210//callback",
    "http://127.0.0.1:43210/./callback",
    "http://127.0.0.1:43210/Callback",
    "http://127.0.0.1:43210/callback?next=https://evil.example",
    "http://127.0.0.1:43210/callback?",
    "http://127.0.0.1:43210/callback;x",
    "http://127.0.0.1:43210/callback#https://evil.example",
    "http://127.0.0.1:43210/callback%23x",
    "http://127.0.0.1:43210/callback%00",
    "http://127.0.0.1:43210/callback%0d%0aSet-Cookie:%20a=b",
    "http://127.0.0.1:43210/callback\r\nSet-Cookie: a=b",
    "http://127.0.0.1:43210/callback ",
    " http://127.0.0.1:43210/callback",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:65536/callback",
    "http://127.0.0.1:043210/callback",
    "http://127.0.0.1:/callback",
    "http://127.0.0.1:x/callback",
    "http://127.0.0.1:\u0661/callback",
    "http://127.0.0.1:43210@evil.example/callback",
    "http://127.0.0.1@evil.example:43210/callback",
    "http://evil.example@127.0.0.1:43210/callback",
    "http://user:password@127.0.0.1:43210/callback",
    "http://127.0.0.1:43210.evil.example/callback",
    "http://127.0.0.1.evil.example:43210/callback",
    "http://127.0.0.1.nip.io:43210/callback",
    "http://127.0.0.1.:43210/callback",
    "http://127.0.0.1\\@evil.example/callback",
    "http://127.0.0.1\\evil.example/callback",
    "http:\\\\127.0.0.1:43210\\callback",
    "http:127.0.0.1:43210/callback",
    "http:///127.0.0.1:43210/callback",
    "//127.0.0.1:43210/callback",
    "/callback",
    "127.0.0.1:43210/callback",
    "HTTP://127.0.0.1:43210/callback",
    "https://127.0.0.1:43210/callback",
    "ftp://127.0.0.1:43210/callback",
    "http://localhost:43210/callback",
    "http://LOCALHOST:43210/callback",
    "http://[::1]:43210/callback",
    "http://[::ffff:127.0.0.1]:43210/callback",
    "http://127.1:43210/callback",
    "http://127.0.0.2:43210/callback",
    "http://0:43210/callback",
    "http://0.0.0.0:43210/callback",
    "http://2130706433:43210/callback",
    "http://0x7f000001:43210/callback",
    "http://0177.0.0.1:43210/callback",
    "http://127.0.0.1%2eevil.example/callback",
    "http://\uff11\uff12\uff17.0.0.1:43210/callback",
    "http://127\u30020.0.1:43210/callback",
    "http://127.0.0.1:43210/callb\u0430ck",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "cursor://evil/callback",
    "{url}/callback",
    "{url}",
    "",
]
"""None of these is `REDIRECT`, with which the client is registered."""


@pytest.mark.parametrize("redirect", ELSEWHERE)
async def test_an_answer_goes_where_the_client_registered_and_nowhere_else(stage: Stage, redirect: str) -> None:
    response, _ = await stage.asked(redirect_uri=redirect.replace("{url}", stage.url))
    assert (response.status_code, onward_of(response)) == (400, ""), (response.status_code, response.headers)
    assert "set-cookie" not in response.headers


REGISTERED_ELSEWHERE: dict[str, tuple[str, list[str]]] = {
    "at an https site": (
        HTTPS_REDIRECT,
        [
            "https://editor.example/callback",
            "https://editor.example/callback?from=pegboard&x=1",
            "https://editor.example/callback?from=Pegboard",
            "https://editor.example/callback?from=pegboard#",
            "https://editor.example:443/callback?from=pegboard",
            "https://editor.example:8443/callback?from=pegboard",
            "https://editor.example./callback?from=pegboard",
            "https://EDITOR.example/callback?from=pegboard",
            "https://evil.editor.example/callback?from=pegboard",
            "https://editor.example.evil.example/callback?from=pegboard",
            "https://evil.example/editor.example/callback?from=pegboard",
            "https://user@editor.example/callback?from=pegboard",
            "http://editor.example/callback?from=pegboard",
            "https://editor.example/x/../callback?from=pegboard",
            "https://editor.example/callback%3ffrom=pegboard",
        ],
    ),
    "in an app": (
        APP_REDIRECT,
        [
            "cursor://anysphere.cursor-retrieval/oauth/callback/",
            "cursor://anysphere.cursor-retrieval/oauth/",
            "cursor://anysphere.cursor-retrieval.evil/oauth/callback",
            "cursor://evil/oauth/callback",
            "cursor:/anysphere.cursor-retrieval/oauth/callback",
            "CURSOR://anysphere.cursor-retrieval/oauth/callback",
            "cursor-evil://anysphere.cursor-retrieval/oauth/callback",
            "vscode://anysphere.cursor-retrieval/oauth/callback",
        ],
    ),
}


@pytest.mark.parametrize("case", REGISTERED_ELSEWHERE)
async def test_nor_does_it_from_a_client_that_is_registered(stage: Stage, case: str) -> None:
    registered, others = REGISTERED_ELSEWHERE[case]
    client = StockClient(stage.url, stage.http, name=f"Client {case}", redirect=registered)
    await client.register()
    for other in others:
        response, _ = await stage.opened(client.authorization("prod/presto", redirect_uri=other))
        assert (response.status_code, onward_of(response)) == (400, ""), other
    answer = query_of(await stage.browser.authorize(client.authorization("prod/presto")))
    assert answer["code"]
    assert (await client.exchange(answer["code"])).status_code == 200


async def test_a_program_on_the_persons_machine_chooses_its_port_and_nothing_else(stage: Stage) -> None:
    _, answer = await stage.asked(redirect_uri="http://127.0.0.1:50000/callback")
    assert answer["code"]


UNREGISTRABLE = [
    "http://evil.example/callback",
    "https://evil.example/callback#x",
    "https://user@evil.example/callback",
    "https://*.evil.example/callback",
    "https://evil.example/../callback",
    "https://evil.example/callback?code=mine",
    "https://evil.example/callback?state=mine&iss=mine",
    "https://10.0.0.1/callback",
    "https://0x7f.1/callback",
    "http://127.0.0.2/callback",
    "http://localhost.evil.example/callback",
    "http://localhost:99999/callback",
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///tmp/x",
    "vbscript:x",
    "unknown:/callback",
    "//evil.example/callback",
    "/callback",
    "https://evil.example/\r\nLocation: x",
    "https://\u0435vil.example/callback",
    "",
]


@pytest.mark.parametrize("redirect", UNREGISTRABLE)
async def test_no_client_registers_a_redirect_that_could_be_somebody_elses(stage: Stage, redirect: str) -> None:
    document = {"client_name": "x", "redirect_uris": [redirect, REDIRECT]}
    response = await stage.http.post(f"{stage.url}/oauth/register", json=document)
    assert response.status_code == 400, response.text
    assert response.json()["error"] in ("invalid_redirect_uri", "invalid_client_metadata")


async def test_no_page_of_pegboards_own_is_handed_a_code(stage: Stage) -> None:
    """Any port of the person's machine is a client's, and on one machine ours is one of them."""
    client = StockClient(stage.url, stage.http, name="Reflector", redirect="http://localhost:1/sign-in/callback")
    await client.register()
    for place in ("/sign-in/callback", "/sign-in/callback?"):
        response, _ = await stage.opened(client.authorization("prod/presto", redirect_uri=stage.url + place))
        assert (response.status_code, onward_of(response)) == (400, "")


# Who answers (RFC 9207), and what comes back

ANSWERS: dict[str, dict[str, str | None]] = {
    "a code": {},
    "no such type": {"response_type": "token"},
    "no type": {"response_type": None},
    "no server": {"resource": None},
    "another's server": {"resource": "https://evil.example/mcp"},
    "no such scope": {"scope": "root"},
    "no challenge": {"code_challenge": None},
    "another mode": {"response_mode": "fragment"},
    "an issuer of the attacker's": {"iss": "https://evil.example"},
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_every_answer_says_once_whose_it_is(stage: Stage, case: str) -> None:
    response, answer = await stage.asked(**ANSWERS[case])
    target = urlsplit(onward_of(response))
    assert target.query.count("iss=") == 1
    assert answer["iss"] == stage.url
    assert answer["state"] == "the-state"
    assert not target.fragment
    assert ("code" in answer) != ("error" in answer)


STATES = {
    "with a line end": "a\r\nSet-Cookie: attacked=1\r\n\r\n<script>",
    "with other line ends": "a\u2028\u0085\x0b\x0cb",
    "with a zero": "a\0b",
    "with markup": "\"'><script>alert(1)</script>",
    "with parameters": "&code=attacker&iss=https://evil.example#x",
    "with percent signs": "%0d%0a%2526",
    "beyond ASCII": "\U0001f98a\u202e",
    "of 2,000 characters": "s" * 2_000,
}


@pytest.mark.parametrize("case", STATES)
@pytest.mark.parametrize("response_type", ["code", "token"])
async def test_state_comes_back_letter_by_letter_and_changes_nothing_else(
    stage: Stage, case: str, response_type: str
) -> None:
    response, answer = await stage.asked(state=STATES[case], response_type=response_type)
    assert answer["state"] == STATES[case]
    assert answer["iss"] == stage.url
    assert "attacked" not in response.headers.get("set-cookie", "")
    assert set(answer) <= {"code", "state", "iss", "error", "error_description"}


async def test_a_request_without_state_is_answered_without_it(stage: Stage) -> None:
    _, answer = await stage.asked(state=None)
    assert set(answer) == {"code", "iss"}


@pytest.mark.parametrize("size", [9_000, 50_000])
@pytest.mark.parametrize("name", ["state", "scope", "client_id", "redirect_uri", "resource", "unknown"])
async def test_a_huge_request_is_refused_here(stage: Stage, name: str, size: int) -> None:
    response, answer = await stage.asked(**{name: "x" * size})
    assert response.status_code in (400, 414, 431), response.status_code
    assert answer == {}


async def test_a_request_that_cannot_be_kept_while_one_signs_in_is_refused_and_not_lost(stage: Stage) -> None:
    url = stage.editor.authorization("prod/presto", state="s" * 2_400)
    signed_out = await stage.http.get(url)
    assert (signed_out.status_code, onward_of(signed_out)) == (400, "")
    assert "sign in first" in signed_out.text
    _, answer = await stage.opened(url)
    assert answer["state"] == "s" * 2_400


# Parameters

NO_CODE: dict[str, dict[str, str | None]] = {
    "the implicit grant": {"response_type": "token"},
    "an id token": {"response_type": "id_token"},
    "a hybrid": {"response_type": "code token"},
    "nothing": {"response_type": "none"},
    "a type in capitals": {"response_type": "CODE"},
    "an answer in the fragment": {"response_mode": "fragment"},
    "an answer in a form": {"response_mode": "form_post"},
    "an answer in a message": {"response_mode": "web_message"},
    "an answer as a token": {"response_mode": "query.jwt"},
    "a request object": {"request": "eyJhbGciOiJub25lIn0.e30."},
    "a request object by URL": {"request_uri": "{listener}/request"},
    "a pushed request": {"request_uri": "urn:ietf:params:oauth:request_uri:x"},
    "no scope that there is": {"scope": "openid profile offline_access"},
    "a scope in capitals": {"scope": "TOOLS"},
    "the API's scope on a server": {"scope": "api"},
    "scopes with a comma": {"scope": "tools,tools:read"},
}


@pytest.fixture
def listener() -> Any:
    """A door of this machine that nobody must knock at."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        yield door


def knocked(door: socket.socket) -> bool:
    """Whether somebody opened a connection."""
    try:
        door.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("case", NO_CODE)
async def test_what_is_not_offered_is_refused_and_not_overlooked(
    stage: Stage, listener: socket.socket, case: str
) -> None:
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    changes = {name: value and value.replace("{listener}", place) for name, value in NO_CODE[case].items()}
    response, answer = await stage.asked(**changes)
    assert "code" not in answer
    assert answer["error"] in ("invalid_request", "unsupported_response_type", "invalid_scope"), response.text
    assert not knocked(listener)


IGNORED: dict[str, dict[str, str | None]] = {
    "prompt": {"prompt": "none"},
    "claims": {"claims": '{"id_token":{"groups":{"value":"security"}}}'},
    "a hint": {"login_hint": "pat", "id_token_hint": "x"},
    "a person": {"as": "pat", "sub": "pat", "person": "pat", "groups": "security"},
    "a surface": {"surface": "chat", "channel": "#data-help"},
    "an audience": {"audience": "{url}/mcp/dev/scratch", "aud": "{url}/api"},
    "details": {"authorization_details": '[{"type":"openid_credential"}]'},
    "a session": {"sid": "x", "session": "x"},
    "a scope too many": {"scope": "tools root offline_access"},
}


@pytest.mark.parametrize("case", IGNORED)
async def test_what_nobody_here_knows_changes_nothing(stage: Stage, case: str) -> None:
    _, answer = await stage.asked(**filled(stage, IGNORED[case]))
    claims = claims_of((await stage.editor.exchange(answer["code"])).json()["access_token"])
    assert claims["sub"] == "ana"
    assert (claims["aud"], claims["scope"]) == (f"{stage.url}/mcp/prod/presto", "tools")
    assert (claims["surface"], "channel" in claims) == ("cli", False)


TWICE = [
    "client_id",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "state",
    "scope",
    "resource",
    "unknown",
]


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("order", ["before", "after"])
async def test_a_parameter_that_comes_twice_is_refused_here(stage: Stage, name: str, order: str) -> None:
    url = stage.editor.authorization("prod/presto", scope="tools", unknown="x")
    more = urlencode({name: "https://evil.example"})
    path, _, query = url.partition("?")
    response, _ = await stage.opened(f"{path}?{more}&{query}" if order == "before" else f"{url}&{more}")
    assert (response.status_code, onward_of(response)) == (400, "")


TOKEN_TWICE = ["grant_type", "code", "redirect_uri", "client_id", "code_verifier", "resource", "scope"]


@pytest.mark.parametrize("name", TOKEN_TWICE)
async def test_nor_does_it_count_twice_for_a_token(stage: Stage, name: str) -> None:
    form = exchange_form(stage, await stage.code())
    form |= {"resource": f"{stage.url}/mcp/prod/presto", "scope": "tools"}
    refused(await posted(stage, f"{urlencode(form)}&{urlencode({name: form[name]})}"), "invalid_request")


def exchange_form(stage: Stage, code: str) -> dict[str, str]:
    """The proper form for a code of the editor's."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "client_id": stage.editor.client_id,
        "code_verifier": stage.editor.verifier,
    }


async def posted(stage: Stage, body: str | bytes, path: str = "token", **headers: str) -> httpx2.Response:
    """A form as these bytes."""
    sent = {
        "content-type": "application/x-www-form-urlencoded",
        **{n.replace("_", "-"): v for n, v in headers.items()},
    }
    stage.http.cookies.clear()
    return await stage.http.post(f"{stage.url}/oauth/{path}", content=body, headers=sent)


BODIES: dict[str, tuple[str, str]] = {
    "JSON": ("application/json", "json"),
    "JSON, called a form": ("application/x-www-form-urlencoded", "json"),
    "a form, called JSON": ("application/json", "form"),
    "a form, called text": ("text/plain", "form"),
    "parts": ("multipart/form-data; boundary=x", "parts"),
    "parts, called a form": ("application/x-www-form-urlencoded", "parts"),
    "a form of another charset": ("application/x-www-form-urlencoded; charset=utf-16", "utf-16"),
    "a form that is not UTF-8": ("application/x-www-form-urlencoded", "latin-1"),
    "a form that is cut": ("application/x-www-form-urlencoded", "cut"),
    "nothing": ("application/x-www-form-urlencoded", "nothing"),
    "no type": ("", "form"),
    "too much": ("application/x-www-form-urlencoded", "big"),
    "too many fields": ("application/x-www-form-urlencoded", "many"),
}


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("path", ["token", "revoke"])
async def test_the_token_endpoint_reads_forms_alone(stage: Stage, case: str, path: str) -> None:
    form = exchange_form(stage, await stage.code()) | {"token": "x"}
    plain = urlencode(form)
    parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in form.items())
    media_type, kind = BODIES[case]
    content = {
        "json": json.dumps(form).encode(),
        "form": plain.encode(),
        "parts": f"{parts}--x--\r\n".encode(),
        "utf-16": plain.encode("utf-16"),
        "latin-1": f"{plain}&x=".encode() + b"\xff",
        "cut": f"{plain}&x".encode(),
        "nothing": b"",
        "big": f"{plain}&x={'x' * 20_000}".encode(),
        "many": (plain + "".join(f"&x{n}=1" for n in range(100))).encode(),
    }[kind]
    answer = await posted(stage, content, path, content_type=media_type)
    assert answer.status_code in (400, 413), answer.text
    assert "access_token" not in answer.text


async def test_a_query_gives_the_token_endpoint_nothing(stage: Stage) -> None:
    code = await stage.code()
    form = exchange_form(stage, code)
    for name in ("code", "client_id", "code_verifier", "grant_type"):
        rest = {key: value for key, value in form.items() if key != name}
        url = f"{stage.url}/oauth/token?{urlencode({name: form[name]})}"
        refused(await stage.http.post(url, data=rest))
    # What is in the body counts, whatever the query says besides.
    url = f"{stage.url}/oauth/token?{urlencode({'client_id': stage.other.client_id, 'resource': 'x'})}"
    assert (await stage.http.post(url, data=form)).status_code == 200


METHODS: dict[str, tuple[str, ...]] = {
    "token": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "revoke": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "register": ("GET", "HEAD", "PUT", "PATCH", "DELETE"),
    "authorize": ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
}


@pytest.mark.parametrize("path", METHODS)
async def test_other_methods_do_nothing(stage: Stage, path: str) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in stage.browser.cookies.items())
    if path == "authorize":
        url = stage.editor.authorization("prod/presto")
    else:
        url = f"{stage.url}/oauth/{path}?{urlencode(exchange_form(stage, await stage.code()))}"
    for method in METHODS[path]:
        answer = await stage.http.request(method, url, headers={"cookie": cookie, "x-http-method-override": "GET"})
        assert answer.status_code in (405, 501), (method, answer.status_code)
        assert "location" not in answer.headers


@pytest.mark.parametrize("dest", ["image", "iframe", "frame", "script", "object", "embed", "empty", "style", "audio"])
async def test_a_page_that_loads_the_address_gets_no_code_made(stage: Stage, dest: str) -> None:
    """A page on another port of this host is of the same site, so that its images bring the session's cookie."""
    response, answer = await stage.opened(stage.editor.authorization("prod/presto"), **{"sec-fetch-dest": dest})
    assert (response.status_code, answer) == (400, {})
    _, answer = await stage.opened(stage.editor.authorization("prod/presto"), **{"sec-fetch-dest": "document"})
    assert answer["code"]


LED_HERE: dict[str, tuple[str, str, bool]] = {
    "a page of another site, to a program here": ("cross-site", REDIRECT, True),
    "a page of another site, to an app": ("cross-site", APP_REDIRECT, True),
    "a page of another site, to a web site": ("cross-site", HTTPS_REDIRECT, False),
    "a program": ("none", REDIRECT, False),
    "a page of ours": ("same-origin", REDIRECT, False),
    "a client that is a page on this machine": ("same-site", REDIRECT, False),
}
"""Who opened the address, where the answer goes, and whether that takes a click."""


@pytest.mark.parametrize("case", LED_HERE)
async def test_a_page_of_another_site_has_nobodys_program_connected_in_silence(stage: Stage, case: str) -> None:
    """Any program of this machine may be behind a loopback address, the page's maker's too (RFC 8252 §8.6)."""
    site, redirect, clicks = LED_HERE[case]
    client = StockClient(stage.url, stage.http, name="Led here", redirect=redirect)
    await client.connect(stage.browser, "prod/presto")
    url = client.authorization("prod/presto", state="<'\"&>")
    page, answer = await stage.opened(url, **{"sec-fetch-site": site, "sec-fetch-dest": "document"})
    assert ("code" in answer) == (not clicks), page.text
    if clicks:
        assert (page.status_code, onward_of(page)) == (200, "")
        [there] = re.findall(r'<a class="button" href="(/oauth/authorize\?[^"]*)"', page.text)
        _, answer = await stage.opened(stage.url + html.unescape(there), **{"sec-fetch-site": "same-origin"})
    assert answer["state"] == "<'\"&>"
    assert (await client.exchange(answer["code"])).status_code == 200


async def test_not_even_pegboards_own_command_is(stage: Stage) -> None:
    command = StockClient(stage.url, stage.http, client_id="pegboard-cli")
    for changes in ({}, {"redirect_uri": None}):
        page, answer = await stage.opened(command.authorization("api", **changes), **{"sec-fetch-site": "cross-site"})
        assert (page.status_code, onward_of(page), answer) == (200, "", {})


# Refresh tokens

REPLAYS: dict[str, dict[str, str | None]] = {
    "another client's": {"client_id": "{other}"},
    "the command's": {"client_id": "pegboard-cli"},
    "nobody's": {"client_id": "nobody"},
    "without a client": {"client_id": None},
    "for another server": {"resource": "{url}/mcp/dev/scratch"},
    "for the API": {"resource": "{url}/api"},
    "for the origin": {"resource": "{url}"},
    "for its server with a slash": {"resource": "{url}/mcp/prod/presto/"},
    "for more": {"scope": "tools api"},
    "for everything": {"scope": "*"},
    "with a space before": {"refresh_token": " {code}"},
    "with a zero behind": {"refresh_token": "{code}\0"},
    "cut": {"refresh_token": "{code}x"},
    "as a code": {"grant_type": "authorization_code", "code": "{code}", "code_verifier": "x" * 43},
    "as a password": {"grant_type": "password", "username": "ana", "password": "{code}"},
    "as a client's own": {"grant_type": "client_credentials"},
    "as a subject": {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "{code}"},
}


@pytest.mark.parametrize("case", REPLAYS)
async def test_a_refresh_token_gives_its_own_client_its_own_server_and_no_more(stage: Stage, case: str) -> None:
    token = (await stage.tokens())["refresh_token"]
    refused(await stage.editor.refresh(**{"token": token, **filled(stage, REPLAYS[case], token)}))
    # Nothing of that was a use of it.
    assert (await stage.editor.refresh(token)).status_code == 200


async def test_a_refresh_token_is_good_once_however_many_try_at_once(stage: Stage) -> None:
    token, answers = (await stage.tokens())["refresh_token"], list[httpx2.Response]()

    async def refresh() -> None:
        answers.append(await stage.editor.refresh(token))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(refresh)
    got = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(got) <= 1
    for tokens in got:
        refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")


async def test_a_chain_of_refresh_tokens_dies_when_any_of_it_comes_again(stage: Stage) -> None:
    chain = [(await stage.tokens())["refresh_token"]]
    for _ in range(4):
        chain.append((await stage.editor.refresh(chain[-1])).json()["refresh_token"])
    for token in (chain[1], *chain):
        refused(await stage.editor.refresh(token), "invalid_grant")


async def test_signing_out_ends_what_every_client_has(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    client = StockClient(stage.url, stage.http, client_id=stage.editor.client_id)
    tokens = [await client.connect(browser, server, "sam") for server in ("prod/presto", "dev/scratch")]
    kept = dict(browser.cookies)
    await signed_out(browser)
    for each in tokens:
        refused(await client.refresh(each["refresh_token"]), "invalid_grant")
    browser.cookies = kept
    response = await browser.get(client.authorization("prod/presto"))
    assert "/sign-in" in onward_of(response)


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_nobody_revokes_in_another_clients_name(stage: Stage, which: str) -> None:
    tokens = await stage.tokens()
    for client_id in (stage.other.client_id, "pegboard-cli"):
        answer = await stage.editor.revoke(tokens[which], client_id=client_id)
        assert (answer.status_code, answer.content) == (200, b"")  # RFC 7009 §2.2 tells nobody whether there was one
    assert (await stage.editor.refresh(tokens["refresh_token"])).status_code == 200


async def test_what_was_revoked_gives_nothing_more(stage: Stage) -> None:
    tokens = await stage.tokens()
    await stage.editor.revoke(tokens["access_token"], token_type_hint="refresh_token")
    refused(await stage.editor.refresh(tokens["refresh_token"]), "invalid_grant")


# One secret in the place of another

DOORS = {
    "another server": ("POST", "/mcp/dev/scratch"),
    "its own server": ("POST", "/mcp/prod/presto"),
    "the API": ("GET", "/api/v1/whoami"),
    "the API's calls": ("GET", "/api/v1/calls"),
}

SECRETS = ["code", "refresh_token", "session", "access_token", "api token"]

GOOD = {("access_token", "its own server"), ("api token", "the API"), ("api token", "the API's calls")}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", SECRETS)
async def test_a_secret_opens_the_one_door_that_it_is_for(stage: Stage, kind: str, door: str) -> None:
    tokens = await stage.tokens()
    made = {
        **tokens,
        "code": await stage.code(),
        "session": next(iter(stage.browser.cookies.values())),
        "api token": stage.pegboard.token("ana", "api"),
    }
    method, path = DOORS[door]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    headers = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    bearer = {"authorization": f"Bearer {made[kind]}"}
    cookies = {"cookie": f"access_token={made[kind]}; {next(iter(stage.browser.cookies))}={made[kind]}"}
    for way, sent in (("bearer", bearer), ("cookie", cookies)):
        answer = await stage.http.request(method, stage.url + path, json=body, headers=headers | sent)
        good = way == "bearer" and (kind, door) in GOOD
        assert (answer.status_code == 200) == good, (way, answer.status_code, answer.text)
        assert good or answer.status_code == 401, answer.text


@pytest.mark.parametrize("kind", ["code", "refresh_token", "access_token"])
async def test_no_secret_of_a_client_signs_a_browser_in(stage: Stage, kind: str) -> None:
    tokens = {**await stage.tokens(), "code": await stage.code()}
    browser = Browser(stage.url, stage.http, {next(iter(stage.browser.cookies)): tokens[kind]})
    assert "/sign-in" in onward_of(await browser.get(stage.editor.authorization("prod/presto")))


# Resources

AUDIENCES = [
    "{url}/mcp/prod/presto/",
    "{url}/mcp/prod/presto?x=1",
    "{url}/mcp/prod/presto?",
    "{url}/mcp/prod/presto#x",
    "{url}/mcp/prod/presto;x",
    "{url}/mcp/prod/PRESTO",
    "{url}/MCP/prod/presto",
    "{URL}/mcp/prod/presto",
    "{url}/mcp/prod%2fpresto",
    "{url}/mcp/prod/pres%74o",
    "{url}/mcp/prod/../prod/presto",
    "{url}/mcp/prod/./presto",
    "{url}/mcp//prod/presto",
    "{url}//mcp/prod/presto",
    "{url}/mcp/prod/presto/..",
    "{url}/mcp/prod/presto ",
    " {url}/mcp/prod/presto",
    "{url}/mcp/prod/presto\n",
    "{url}/mcp/prod/presto\0",
    "{url}/mcp/prod/presto,{url}/api",
    "{url}/mcp/prod/presto {url}/api",
    '["{url}/mcp/prod/presto"]',
    "{url}/mcp/prod/*",
    "{url}/mcp/*",
    "{url}/mcp/",
    "{url}/mcp/prod",
    "{url}/",
    "{url}",
    "{url}/api/",
    "{url}/api/v1",
    "{url}/oauth/token",
    "http://127.0.0.1:{port}/mcp/prod/presto",
    "http://localhost/mcp/prod/presto",
    "http://localhost:1/mcp/prod/presto",
    "https://localhost:{port}/mcp/prod/presto",
    "http://localhost:0{port}/mcp/prod/presto",
    "http://localhost.:{port}/mcp/prod/presto",
    "http://user@localhost:{port}/mcp/prod/presto",
    "http://localhost:{port}@evil.example/mcp/prod/presto",
    "//localhost:{port}/mcp/prod/presto",
    "https://evil.example/mcp/prod/presto",
    "https://evil.example/{url}/mcp/prod/presto",
    "/mcp/prod/presto",
    "prod/presto",
    "urn:pegboard:prod:presto",
    "{url}/mcp/prod/nobody",
    "{url}/mcp/prod/pr\u0435sto",
    "*",
]


@pytest.mark.parametrize("resource", AUDIENCES)
async def test_a_token_is_for_a_server_by_its_exact_url(stage: Stage, resource: str) -> None:
    given = filled(stage, {"resource": resource})
    response, answer = await stage.asked(**given)
    assert "code" not in answer
    assert answer["error"] == "invalid_target", response.text
    command = StockClient(stage.url, stage.http, client_id="pegboard-cli")
    code = query_of(await stage.browser.authorize(command.authorization("api")))["code"]
    refused(await command.exchange(code, **given), "invalid_target")


async def test_a_token_for_the_api_is_not_for_a_client_that_nobody_approved(stage: Stage) -> None:
    response, answer = await stage.opened(stage.editor.authorization("api"))
    assert answer["error"] == "invalid_target", response.text
    assert "Pegboard's own command" in answer["error_description"]


async def test_who_is_not_signed_in_learns_of_no_server_and_no_person(stage: Stage) -> None:
    """The same answer for a server that there is and one that there is not, but for its name."""
    answers = set()
    for server in ("prod/presto", "prod/nobody"):
        url = stage.editor.authorization(server, code_challenge="x" * 43)
        page = await stage.http.get(url)
        metadata = await stage.http.get(f"{stage.url}/.well-known/oauth-protected-resource/mcp/{server}")
        told = [page.status_code, unquote(unquote(onward_of(page))), metadata.status_code, metadata.text]
        answers.add(tuple(str(each).replace(server, "NAME") for each in told))
    assert len(answers) == 1


# Registration

POISON: dict[str, dict[str, Any]] = {
    "another's id": {"client_id": "pegboard-cli"},
    "a secret of its own": {"client_secret": "mine", "client_secret_expires_at": 0},
    "a surface": {"surface": "bot", "channels": ["#data-help"]},
    "a standing": {"standing": "approved", "kind": "first-party", "any_resource": True},
    "a software": {"software_id": "pegboard-cli", "software": "pegboard-cli"},
    "a statement": {"software_statement": "eyJhbGciOiJub25lIn0.e30."},
    "confidence": {"token_endpoint_auth_method": "client_secret_basic"},
    "more scope": {"scope": "api root"},
}


@pytest.mark.parametrize("case", POISON)
async def test_a_client_registers_as_nothing_but_an_unknown_public_one(stage: Stage, case: str) -> None:
    document = {"client_name": f"Poison {case}", "redirect_uris": [REDIRECT], **POISON[case]}
    response = await stage.http.post(f"{stage.url}/oauth/register", json=document)
    if response.status_code == 400:
        return
    found = response.json()
    assert response.status_code == 201, response.text
    assert found["client_id"] not in ("pegboard-cli", stage.editor.client_id)
    assert found.get("client_secret") is None
    assert found["token_endpoint_auth_method"] == "none"
    client = StockClient(stage.url, stage.http, client_id=found["client_id"])
    url = client.authorization("prod/presto")
    assert "/consent" in onward_of(await stage.browser.get(url))
    answer = await stage.browser.authorize(url)
    claims = claims_of((await client.exchange(query_of(answer)["code"])).json()["access_token"])
    assert (claims["client_id"], claims["surface"], claims["scope"]) == (found["client_id"], "cli", "tools")
    assert "channel" not in claims


FETCHABLE = [
    "client_uri",
    "logo_uri",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "sector_identifier_uri",
    "initiate_login_uri",
]


@pytest.mark.parametrize("name", FETCHABLE)
async def test_no_address_in_a_registration_is_fetched(stage: Stage, listener: socket.socket, name: str) -> None:
    place = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    client = StockClient(stage.url, stage.http, name="Fetches")
    response = await stage.http.post(
        f"{stage.url}/oauth/register",
        json={"client_name": client.name, "redirect_uris": [client.redirect], name: place},
    )
    if response.status_code == 201:
        client.client_id = response.json()["client_id"]
        await client.connect(stage.browser, "prod/presto")
    assert not knocked(listener)


REGISTRATIONS: dict[str, Any] = {
    "nothing": b"",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no JSON": b"redirect_uris=x",
    "a deep one": b"[" * 10_000,
    "a huge one": b'{"client_name":"' + b"x" * 20_000 + b'"}',
    "not UTF-8": b'{"client_name":"\xff","redirect_uris":["http://127.0.0.1/cb"]}',
    "no redirects": b'{"client_name":"x"}',
    "empty redirects": b'{"redirect_uris":[]}',
    "null for redirects": b'{"redirect_uris":null}',
    "text for redirects": b'{"redirect_uris":"http://127.0.0.1/cb"}',
    "an object for redirects": b'{"redirect_uris":{"0":"http://127.0.0.1/cb"}}',
    "a number for a redirect": b'{"redirect_uris":[1]}',
    "a name that is a list": b'{"client_name":["x"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "no grant that there is": b'{"grant_types":["client_credentials"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "the implicit grant": b'{"response_types":["token"],"redirect_uris":["http://127.0.0.1/cb"]}',
    "keys of its own": b'{"token_endpoint_auth_method":"private_key_jwt","redirect_uris":["http://127.0.0.1/cb"]}',
}


@pytest.mark.parametrize("case", REGISTRATIONS)
async def test_an_odd_registration_is_refused_in_words_and_breaks_nothing(stage: Stage, case: str) -> None:
    headers = {"content-type": "application/json"}
    response = await stage.http.post(f"{stage.url}/oauth/register", content=REGISTRATIONS[case], headers=headers)
    assert response.status_code in (400, 413), response.text
    assert "Traceback" not in response.text
    assert "pegboard_hub" not in response.text


# Browsers: other sites, other names, cookies

OPEN = ["/oauth/token", "/oauth/revoke", "/oauth/register", "/.well-known/oauth-authorization-server"]
CLOSED = ["/oauth/authorize", "/sign-in", "/consent", "/api/v1/whoami"]


@pytest.mark.parametrize("path", [*OPEN, *CLOSED])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
async def test_no_other_site_reads_an_answer_with_the_persons_cookies(stage: Stage, path: str, origin: str) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in stage.browser.cookies.items())
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "cookie"}
    for method, headers in (
        ("OPTIONS", asked),
        ("POST", {"origin": origin, "cookie": cookie}),
        ("GET", {"origin": origin}),
    ):
        answer = await stage.http.request(method, stage.url + path, headers=headers)
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == "*" if path in OPEN and allowed else allowed is None, (method, allowed)
        assert "access-control-allow-credentials" not in answer.headers


HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example:{port}",
    "localhost:1",
    "",
]
REBOUND = [
    *OPEN,
    "/oauth/authorize?client_id=x",
    "/sign-in",
    "/consent",
    "/.well-known/oauth-protected-resource/mcp/prod/presto",
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", REBOUND)
def test_under_a_rebound_name_nothing_is_answered(pegboard: Instance, host: str, path: str) -> None:
    port = pegboard.public_url.rpartition(":")[2]
    method = "POST" if path in OPEN[:3] else "GET"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host.replace('{port}', port)}", "Content-Length: 0"]
    answer = send(pegboard, [*lines, "X-Forwarded-Host: localhost", "Connection: close"])
    assert answer.status in (400, 404, 421), answer.text
    assert "issuer" not in answer.text
    assert "set-cookie" not in answer.text.lower()


async def test_a_session_is_in_no_cookie_that_scripts_or_other_sites_can_use(stage: Stage) -> None:
    browser = Browser(stage.url, stage.http)
    page = await browser.get(f"{stage.url}/sign-in")
    answer = await browser.press(page, "fay")
    [given] = [x for x in answer.headers.get_list("set-cookie") if x.split("=")[0] in stage.browser.cookies]
    attributes = {part.strip().lower() for part in given.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)


TOSSED = {
    "another beside it, behind": "{name}={value}; {name}=attackers",
    "another beside it, before": "{name}=attackers; {name}={value}",
    "the same twice": "{name}={value}; {name}={value}",
    "an empty one beside it": "{name}=; {name}={value}",
    "another's value": "{name}=attackers",
    "its value in another case": "{name}={VALUE}",
    "its value cut": "{name}={value}x",
    "its value in quotes": '{name}="{value}"',
    "its value with a zero": "{name}={value}%00",
    "another instance's name": "pegboard_other={value}",
    "its name in capitals": "{NAME}={value}",
    "a prefix before its name": "__Host-{name}={value}",
    "no value": "{name}",
}


@pytest.mark.parametrize("case", TOSSED)
async def test_a_cookie_that_was_tossed_in_signs_nobody_in(stage: Stage, case: str) -> None:
    name, value = next(iter(stage.browser.cookies.items()))
    tossed = TOSSED[case].format(name=name, value=value, NAME=name.upper(), VALUE=value.swapcase())
    stage.http.cookies.clear()
    answer = await stage.http.get(stage.editor.authorization("prod/presto"), headers={"cookie": tossed})
    assert "/sign-in" in onward_of(answer), (answer.status_code, answer.text[:300])


async def test_a_client_that_is_blocked_or_unknown_gets_one_answer(stage: Stage) -> None:
    """Whatever its id: nothing that was asked for, and no word of what is inside."""
    odd = ["nobody", "", "x" * 600, "\0", "%00", "' OR 1=1 --", "../../etc", "https://evil.example", "\u202e", "a\nb"]
    for client_id in odd:
        response, answer = await stage.asked(client_id=client_id)
        assert (response.status_code, answer) == (400, {}), client_id
        assert "pegboard_hub" not in response.text
        refused(await stage.editor.refresh("x", client_id=client_id), "invalid_client", "invalid_request")


BASICS = {
    "padding alone": "Basic =",
    "no colon": "Basic " + base64.b64encode(b"nobody").decode(),
    "nobody": "Basic " + base64.b64encode(b"nobody:x").decode(),
    "a path": "Basic " + base64.b64encode(quote("../x").encode() + b":x").decode(),
    "not base64": "Basic ***",
    "not UTF-8": "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    "another scheme": "Bearer x",
}


@pytest.mark.parametrize("case", BASICS)
@pytest.mark.parametrize("path", ["token", "revoke"])
async def test_a_bad_header_of_a_client_is_refused_with_the_header_that_would_do(
    stage: Stage, case: str, path: str
) -> None:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": "x", "token": "x"})
    answer = await posted(stage, body, path, authorization=BASICS[case])
    refused(answer, "invalid_client")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_no_secret_of_these_attacks_is_in_any_file_of_the_home(stage: Stage) -> None:
    """After whatever ran before, and after codes and tokens in every place where one might be put by mistake."""
    tokens, code = await stage.tokens(), await stage.code()
    for secret in (code, *(tokens[name] for name in ("access_token", "refresh_token"))):
        await stage.http.get(f"{stage.url}/oauth/token?code={secret}", headers={"x-token": secret})
        await stage.http.get(f"{stage.url}/oauth/authorize?code={secret}&client_id={secret}&state={secret}")
        await stage.http.get(f"{stage.url}/sign-in?continue=/{secret}", headers={"referer": f"{stage.url}/{secret}"})
        await stage.http.get(f"{stage.url}/mcp/prod/presto?access_token={secret}", headers={"user-agent": secret})
        await stage.editor.exchange(secret)
        await stage.editor.refresh(secret)
        await stage.editor.revoke(secret, client_id="nobody")
        await stage.editor.exchange(code, client_id=secret[:500], resource=secret)
    found = {secret.rpartition(".")[2].encode() for secret in stage.secrets if len(secret) > 20}
    assert len(found) > 20
    assert holding(stage.pegboard.home.root, found) == set()
    assert not any(secret.decode() in stage.pegboard.said for secret in found)
