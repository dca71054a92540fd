"""Where answers to an authorization request go, attacked: where the client registered, in this instance's name.

Rules: RFC 9700, RFC 9207. The other attacks on signing in are listed in `test_oauth_attacks.py`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.attacks.oauth_stage import (
    APP_REDIRECT,
    HTTPS_REDIRECT,
    Stage,
)
from tests.oauth import REDIRECT, StockClient, onward_of, query_of

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

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
