"""The hub's doors: pages, API, sign-in and the internal door, under callers who send what no form would.

Rules (design, Rules of trust): deny by default; tokens are never logged; descriptions and names are untrusted text.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.identity.demo import DEMO_GRANT
from tests.attacks.wire import initialize, legacy, modern
from tests.leaks import holding
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}\u202e\x1b[31m"


def form(pegboard: Instance, **changed: Any) -> dict[str, Any]:
    whole = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": f"{pegboard.public_url}/api"}
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


FORMS: dict[str, dict[str, Any]] = {
    "person twice": {"person": ["fay", "ana"]},
    "resource twice": {"resource": ["http://localhost/api", "x"]},
    "nobody": {"person": None},
    "somebody unknown": {"person": "root"},
    "a template": {"person": "{{7*7}}"},
    "SQL": {"person": "ana' OR '1'='1"},
    "an attribute of the directory": {"person": "__class__"},
    "a service's surface": {"surface": "service"},
    "another's server": {"resource": "http://evil.example/mcp/prod/presto"},
    "a server that is a path": {"resource": "/mcp/prod/presto"},
    "a fragment": {"resource": "{url}/api#x"},
    "no resource": {"resource": None},
    "a channel it is not in": {"surface": "bot", "channel": "#secret"},
    "a channel for the command line": {"channel": "#data-help"},
    "another grant": {"grant_type": "password"},
    "for ever": {"lifetime": "99999999"},
    "below zero": {"lifetime": "-1"},
    "thousands of digits": {"lifetime": "000000900" + "9" * 5_000},
    "other digits": {"lifetime": "\u0669\u0669"},
    "infinity": {"lifetime": "inf"},
    "too long": {"person": "a" * 20_000},
}


@pytest.mark.parametrize("case", FORMS)
def test_an_odd_token_request_gives_no_token(pegboard: Instance, case: str) -> None:
    changed = {
        name: value.replace("{url}", pegboard.public_url) if isinstance(value, str) else value
        for name, value in FORMS[case].items()
    }
    answer = httpx2.post(f"{pegboard.public_url}/oauth/token", data=form(pegboard, **changed))
    assert answer.status_code in (400, 413), answer.text
    assert "access_token" not in answer.text


PAGES: dict[str, dict[str, str]] = {
    "of another site": {"origin": "http://evil.example"},
    "in a sandboxed frame": {"origin": "null"},
    "of another port": {"origin": "http://localhost:1"},
    "under another scheme": {"origin": "https://localhost"},
    "under a rebound name": {"host": "evil.example"},
    "sending text": {"content-type": "text/plain"},
    "sending JSON": {"content-type": "application/json"},
    "sending parts": {"content-type": "multipart/form-data; boundary=x"},
}


@pytest.mark.parametrize("case", PAGES)
def test_a_web_page_gets_no_token(pegboard: Instance, case: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", **PAGES[case]}
    body = "&".join(f"{name}={value}" for name, value in form(pegboard).items())
    answer = httpx2.post(f"{pegboard.public_url}/oauth/token", content=body, headers=headers)
    assert answer.status_code in (400, 421), answer.text
    assert "access_token" not in answer.text
    assert "access-control-allow-credentials" not in answer.headers


PATHS = [
    "/static/../frame.py",
    "/static/%2e%2e/frame.py",
    "/static/..%2fframe.py",
    "/static/..%5cframe.py",
    "/static//etc/passwd",
    "/static/",
    "/docs",
    "/redoc",
    "/openapi.json",
    "//evil.example/",
    "/%2f%2fevil.example/",
    "/\\evil.example",
    "/internal/v1/records",
    "/api/v1/../../internal/v1/records",
    "/.git/config",
    "/server-status",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_leads_out_of_nothing(pegboard: Instance, path: str) -> None:
    url = httpx2.URL(pegboard.public_url).copy_with(raw_path=path.encode())
    answer = httpx2.get(url, follow_redirects=False)
    assert answer.status_code in (400, 404, 405), (path, answer.text[:200])
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["whoami", "servers", "explain?server=prod/presto", "calls", "openapi.json"])
@pytest.mark.parametrize("how", ["nothing", "query", "cookie", "basic"])
def test_the_api_wants_a_token_in_its_one_place(pegboard: Instance, path: str, how: str) -> None:
    token = pegboard.token("ana", "api")
    headers = {"cookie": f"access_token={token}"} if how == "cookie" else {}
    headers |= {"authorization": f"Basic {token}"} if how == "basic" else {}
    url = f"{pegboard.public_url}/api/v1/{path}"
    if how == "query":
        url += ("&" if "?" in url else "?") + f"access_token={token}"
    assert httpx2.get(url, headers=headers).status_code == 401


ASKED: list[tuple[str, int]] = [
    ("explain?server=prod/presto&person=ana", 403),
    ("explain?server=prod/presto&person=ana&tool=get_revenue_metrics", 403),
    ("explain?server=prod/presto&person=nobody", 403),
    ("explain?server=prod/presto&surface=service", 422),
    ("explain?server=prod/nothing", 404),
    ("explain?server=../x", 422),
    ("explain?server=prod/presto%00", 422),
    ("calls?limit=100000000", 422),
    ("calls?limit=-1", 422),
    ("servers/prod/presto%27--/access", 422),
]


@pytest.mark.parametrize(("asked", "status"), ASKED)
def test_the_api_tells_nobody_what_is_not_theirs(pegboard: Instance, asked: str, status: int) -> None:
    headers = {"authorization": f"Bearer {pegboard.token('fay', 'api')}"}
    answer = httpx2.get(f"{pegboard.public_url}/api/v1/{asked}", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["layer"] == "hub"


FILTERS: dict[str, tuple[dict[str, str], int]] = {
    "nothing": ({}, 200),
    "a server": ({"server": "prod/presto"}, 200),
    "another person": ({"person": "ana"}, 200),
    "another person's tool": ({"tool": "list_tables"}, 200),
    "another person on a server": ({"person": "ana", "server": "prod/presto"}, 200),
    "a pattern for a person": ({"person": "%"}, 200),
    "SQL for a person": ({"person": "fay' OR '1'='1"}, 200),
    "a union for a tool": ({"tool": "x' UNION SELECT * FROM calls --"}, 200),
    "SQL for a server": ({"server": "' OR 1=1 --"}, 422),
    "a pattern for a server": ({"server": "%"}, 422),
    "a union for a server": ({"server": "prod/presto' UNION SELECT * FROM calls --"}, 422),
    "a column": ({"sub": "ana"}, 422),
}


@pytest.mark.parametrize("case", FILTERS)
def test_calls_are_ones_own_whatever_is_asked_for(pegboard: Instance, case: str) -> None:
    asked, status = FILTERS[case]
    secret = listed(pegboard)
    headers = {"authorization": f"Bearer {pegboard.token('fay', 'api')}"}
    answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params=asked, headers=headers)
    assert answer.status_code == status, answer.text
    assert secret not in answer.text
    assert {call["person"] for call in answer.json().get("calls", ())} <= {"fay"}
    one = httpx2.get(f"{pegboard.public_url}/api/v1/calls/{secret}", params=asked, headers=headers)
    assert one.status_code in (404, 422), one.text


def listed(pegboard: Instance) -> str:
    """The id of a call of Ana's that the ledger tells her of."""
    modern(pegboard, pegboard.token("ana"), "tools/call", {"name": "list_tables", "arguments": {}})
    headers = {"authorization": f"Bearer {pegboard.token('ana', 'api')}"}
    asked = {"person": "ana", "tool": "list_tables"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params=asked, headers=headers)
        if found := answer.raise_for_status().json()["calls"]:
            return str(found[0]["id"])
    raise AssertionError("Ana's call did not reach the ledger")


def test_what_callers_write_stays_text_on_the_page(pegboard: Instance) -> None:
    token = pegboard.token("fay")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": MARKUP, "arguments": {}}}
    assert "tool_unavailable" in legacy(pegboard, token, body, initialize(pegboard, token)).text
    page = httpx2.Response(500)
    deadline = time.monotonic() + 60
    while "&lt;script&gt;" not in page.text and time.monotonic() < deadline:
        page = httpx2.get(f"{pegboard.public_url}/", params={"as": "fay"})
    assert "&lt;script&gt;" in page.text
    for raw in ("<script", "<img src=x"):
        assert raw not in page.text
    reflected = httpx2.get(f"{pegboard.public_url}/", params={"as": MARKUP, "surface": MARKUP})
    assert "<script" not in reflected.text
    assert "<img src=x" not in reflected.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def _deliver(pegboard: Instance, door: str, body: Any, token: str | None) -> httpx2.Response:
    transport = httpx2.HTTPTransport(uds=str(pegboard.home.internal_socket))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx2.Client(transport=transport, base_url="http://hub") as client:
        content = body if isinstance(body, str) else json.dumps(body)
        return client.post(f"/internal/v1/{door}", content=content, headers=headers)


def _channel(pegboard: Instance) -> str:
    """Presto's own channel token, as a hostile presto would have it."""
    credentials = pegboard.home.credentials(ServerName("prod", "presto"))
    return str(json.loads(credentials.read_text())["channel_token"])


REFUSAL = {"request_id": "r", "at_ms": 1, "server": "dev/scratch", "status": 403, "code": "x", "reason": "y"}


@pytest.mark.parametrize("door", ["records", "edge/refusals"])
def test_the_internal_door_wants_the_right_credential(pegboard: Instance, door: str) -> None:
    operator = pegboard.home.operator_token.read_text().strip()
    wrong = [None, "", "x", pegboard.token("pat", "api"), _channel(pegboard) if "edge" in door else operator]
    for token in wrong:
        body = {"refusals": [REFUSAL]} if "edge" in door else {"records": []}
        assert _deliver(pegboard, door, body, token).status_code == 401


def test_a_server_cannot_write_in_anothers_name(pegboard: Instance) -> None:
    who = {"sub": "sam", "sub_type": "person", "surface": "cli", "client_id": "x"}
    record = {"kind": "denial", "id": "forged-1", "at_ms": 1, "release": "r", "who": who, "code": "c", "reason": "r"}
    for more in ({"server": "dev/scratch"}, {"minutes_saved": 1e9}, {"layer": "edge"}):
        _deliver(pegboard, "records", {"records": [record | more]}, _channel(pegboard))
    _deliver(pegboard, "records", {"records": [record | {"release": "another's"}]}, _channel(pegboard))
    headers = {"authorization": f"Bearer {pegboard.token('pat', 'api')}"}
    calls = httpx2.get(f"{pegboard.public_url}/api/v1/calls?limit=1000", headers=headers).json()["calls"]
    forged = [call for call in calls if call["id"] == "forged-1"]
    assert [(call["server"], call["layer"]) for call in forged] == [("prod/presto", "server")]
    assert forged[0]["release"] != "another's"
    assert forged[0]["minutes_saved"] == 0


DELIVERIES = [
    "",
    "[]",
    '{"records": 1}',
    '{"records": [1]}',
    '{"records": [{}], "more": 1}',
    '{"records": ' + "[" * 100_000,
    '{"records": [{"kind": "denial", "id": "' + "x" * 1_000 + '"}]}',
    "\xff",
]


@pytest.mark.parametrize("number", range(len(DELIVERIES)))
def test_a_delivery_that_cannot_be_read_breaks_nothing(pegboard: Instance, number: int) -> None:
    answer = _deliver(pegboard, "records", DELIVERIES[number], _channel(pegboard))
    assert answer.status_code < 500, answer.text
    assert httpx2.get(f"{pegboard.public_url}/readyz").status_code == 200


def test_no_token_is_in_any_file_of_the_home(pegboard: Instance) -> None:
    """After whatever ran before, and after a token in every place where one might be put by mistake."""
    token = pegboard.token("ana")
    for url in (f"/mcp/prod/presto?token={token}", f"/?as={token}", f"/api/v1/whoami?t={token}"):
        httpx2.get(pegboard.public_url + url, headers={"x-token": token, "cookie": f"t={token}"})
    modern(pegboard, token, "tools/call", {"name": "list_tables", "arguments": {"token": token}})
    modern(pegboard, token, "tools/call", {"name": token, "arguments": {}})
    signed = {pegboard.home.edge_bundle.name, "bundle.jws"}  # bundles are signed the same way and hold no secret
    signature = token.rpartition(".")[2].encode()
    assert {path for path in holding(pegboard.home.root, [signature]) if path.name not in signed} == set()


def test_a_path_is_not_logged_at_a_length_that_holds_a_token(pegboard: Instance) -> None:
    token = pegboard.token("ana")
    assert httpx2.get(f"{pegboard.public_url}/x{token}").status_code == 404
    assert token.rpartition(".")[2] not in pegboard.home.log("hub").read_text(encoding="utf-8")
