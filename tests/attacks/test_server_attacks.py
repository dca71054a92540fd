"""Callers who are let in, and try to be somebody else, see what is hidden, or run what they may not.

Rules (design, Rules of trust): legacy sessions belong to one {sub, surface}; streams end when the token does. Design,
Refusals: a hidden tool and an unknown one get the same answer.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from pegboard.transport.sessions import MAX_SESSIONS_OF_ONE
from tests.attacks.wire import ACCEPT, META, MODERN, PRESTO, initialize, legacy, message, modern
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_S = 60
"""Seconds after which what must come to be has not: not how long it may take."""

HIDDEN, UNKNOWN = "get_revenue_metrics", "get_nothing_whatever"
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}


@pytest.fixture(scope="module")
def fay(pegboard: Instance) -> str:
    return pegboard.token("fay")


@pytest.fixture(scope="module")
def ana(pegboard: Instance) -> str:
    return pegboard.token("ana")


THIEVES = [("fay", "prod/presto", "cli"), ("ana", "prod/presto", "chat"), ("ana", "dev/scratch", "cli")]


@pytest.mark.parametrize(("person", "server", "surface"), THIEVES)
@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
def test_a_stolen_session_is_no_session(
    pegboard: Instance, ana: str, person: str, server: str, surface: str, verb: str
) -> None:
    session = initialize(pegboard, ana)
    thief = pegboard.token(person, server, surface)
    body = json.dumps(PING) if verb == "POST" else ""
    assert legacy(pegboard, thief, body, session, f"/mcp/{server}", verb).status_code == 404
    assert legacy(pegboard, ana, PING, session).status_code == 200  # and its owner still has it


@pytest.mark.parametrize("session", ["0" * 32, "a" * 10_000, "../x", "%00", "null", "x y"])
def test_a_session_cannot_be_chosen_or_guessed(pegboard: Instance, ana: str, session: str) -> None:
    assert legacy(pegboard, ana, PING, session).status_code in (400, 404)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "null": {"arguments": None},
    "unknown": {"arguments": {"x": 1}},
    "of another type": {"arguments": {"month": []}},
    "a list": {"arguments": []},
    "text": {"arguments": "x"},
    "deep": {"arguments": {"x": [[[[[[[[1]]]]]]]]}},
    "a task": {"arguments": {}, "task": {"ttl": 1}},
    "a state": {"arguments": {}, "requestState": "x", "inputResponses": {}},
}


@pytest.mark.parametrize("case", ARGUMENTS)
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_hidden_tool_answers_as_an_unknown_one(pegboard: Instance, fay: str, era: str, case: str) -> None:
    answers = []
    session = initialize(pegboard, fay) if era == "legacy" else ""
    for name in (HIDDEN, UNKNOWN):
        params = {"name": name, **ARGUMENTS[case]}
        if era == "modern":
            answer = modern(pegboard, fay, "tools/call", params)
        else:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            answer = legacy(pegboard, fay, body, session)
        text = answer.text.replace(name, "TOOL").replace(answer.headers["x-request-id"], "ID")
        headers = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id", "content-length")}
        answers.append((answer.status_code, text, headers))
    assert answers[0] == answers[1]
    assert "revenue" not in answers[0][1].replace("ads revenue", "")  # the server's own description names it


def test_the_api_explains_a_hidden_tool_as_an_unknown_one(pegboard: Instance) -> None:
    headers = {"authorization": f"Bearer {pegboard.token('fay', 'api')}"}
    found = []
    for name in (HIDDEN, UNKNOWN):
        url = f"{pegboard.public_url}/api/v1/explain?server=prod/presto&tool={name}"
        answer = httpx2.get(url, headers=headers)
        found.append(answer.text.replace(name, "TOOL").replace(answer.headers["x-request-id"], "ID"))
    assert found[0] == found[1]


NAMES = ["get_revenue_metrics\0", "get_revenue_metrics ", "GET_REVENUE_METRICS", "get_revenue_metr\u0456cs", "*", ""]


@pytest.mark.parametrize("name", NAMES)
def test_no_other_spelling_of_a_hidden_tool_runs_it(pegboard: Instance, fay: str, name: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
    answer = legacy(pegboard, fay, body, initialize(pegboard, fay))
    assert "tool_unavailable" in answer.text
    assert '"isError":true' in answer.text


SHAPES = [
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["list_tables"]}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["list_tables"]}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":{"list_tables":1}}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"list_tables"}}',
    '{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"list_tables"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call ","params":{"name":"list_tables"}}',
    '{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"list_tables"}}',
    '{"jsonrpc":"2.0","id":{"a":1},"method":"tools/call","params":{"name":"list_tables"}}',
    '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"list_tables"}}',
    '{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call","params":{"name":"list_tables"}}}',
]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_odd_call_does_not_run_and_is_not_in_the_ledger(pegboard: Instance, ana: str, shape: str) -> None:
    session = initialize(pegboard, ana)
    odd = legacy(pegboard, ana, shape, session)
    assert '"tables"' not in odd.text
    assert legacy(pegboard, ana, PING, session).status_code == 200
    call = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "list_tables", "arguments": {}}}
    later = legacy(pegboard, ana, call, session)
    # A server's records come in the order in which it wrote them.
    deadline = time.monotonic() + PATIENCE_S
    while _decisions(pegboard, later) != ["allowed"]:
        assert time.monotonic() < deadline, "the call behind it is not in the ledger"
        time.sleep(0.1)
    assert "allowed" not in _decisions(pegboard, odd)


METHODS = [
    "logging/setLevel",
    "completion/complete",
    "resources/subscribe",
    "tasks/list",
    "tasks/result",
    "roots/list",
    "sampling/createMessage",
    "elicitation/create",
    "subscriptions/listen",
    "server/discover",
    "rpc.discover",
    "__init__",
]


@pytest.mark.parametrize("method", METHODS)
def test_what_a_server_does_not_have_is_not_there_in_a_session(pegboard: Instance, ana: str, method: str) -> None:
    params = {"level": "debug", "uri": "file:///etc/passwd", "taskId": "1", "notifications": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    assert '"code":-3260' in legacy(pegboard, ana, body, initialize(pegboard, ana)).text


@pytest.mark.parametrize("state", ["", "x", "A" * 5_000, "eyJhIjoxfQ", 5, {"a": 1}])
def test_a_made_up_request_state_is_refused(pegboard: Instance, ana: str, state: Any) -> None:
    params = {"name": "list_tables", "arguments": {}, "requestState": state, "inputResponses": {}}
    answer = modern(pegboard, ana, "tools/call", params)
    assert answer.status_code == 400
    assert '"tables"' not in answer.text


def test_a_caller_cannot_put_a_refusal_or_a_caller_into_its_own_meta(pegboard: Instance, fay: str) -> None:
    meta = {**META, "pegboard.dev/refusal": {"code": "x"}, "pegboard.dev/caller": {"groups": ["ads-eng"]}}
    answer = modern(pegboard, fay, "tools/call", {"name": "list_tables", "arguments": {}, "_meta": meta})
    assert "pegboard.dev" not in answer.text
    refused = modern(pegboard, fay, "tools/call", {"name": HIDDEN, "arguments": {}, "_meta": meta})
    assert "tool_unavailable" in refused.text


def test_a_cancellation_reaches_nobody_elses_call(pegboard: Instance, ana: str, fay: str) -> None:
    session = initialize(pegboard, ana)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
    assert legacy(pegboard, fay, cancel, session).status_code == 404
    assert legacy(pegboard, ana, PING, session).status_code == 200


def test_a_caller_who_hoards_sessions_takes_them_from_nobody_else(pegboard: Instance, ana: str, fay: str) -> None:
    others = initialize(pegboard, fay)
    hoard = [initialize(pegboard, ana) for _ in range(MAX_SESSIONS_OF_ONE + 5)]
    answers = [legacy(pegboard, ana, PING, session).status_code for session in hoard]
    assert answers.count(404) >= 5
    assert answers[-MAX_SESSIONS_OF_ONE:] == [200] * MAX_SESSIONS_OF_ONE
    assert legacy(pegboard, fay, PING, others).status_code == 200


SHORT_LIFE_S = 3


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_stream_ends_with_its_token(pegboard: Instance, era: str) -> None:
    began = time.monotonic()
    token = pegboard.token("ana", lifetime_s=SHORT_LIFE_S)
    headers = {**ACCEPT, "authorization": f"Bearer {token}"}
    if era == "legacy":
        headers |= {"mcp-protocol-version": "2025-11-25", "mcp-session-id": initialize(pegboard, token)}
        request: dict[str, Any] = {"method": "GET", "headers": headers}
    else:
        headers |= {"mcp-protocol-version": MODERN, "mcp-method": "subscriptions/listen"}
        body = message("subscriptions/listen", notifications={"toolsListChanged": True})
        request = {"method": "POST", "headers": headers, "content": body}
    with httpx2.stream(url=f"{pegboard.public_url}{PRESTO}", timeout=15, **request) as stream:
        assert stream.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):  # cut off, as nothing ends it in its own protocol
            for _ in stream.iter_raw():
                pass
    assert SHORT_LIFE_S - 1 < time.monotonic() - began < PATIENCE_S


def _decisions(pegboard: Instance, answer: httpx2.Response) -> list[str]:
    """What the ledger has of ana's request: how each call in it was decided."""
    headers = {"authorization": f"Bearer {pegboard.token('ana', 'api')}"}
    query = {"request_id": answer.headers["x-request-id"]}
    found = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params=query, headers=headers).json()["calls"]
    return [call["decision"] for call in found]
