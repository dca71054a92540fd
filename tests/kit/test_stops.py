"""What the operator stopped is refused with the reason, and told to nobody who could not use it anyway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
from mcp_types import CallToolResult

from pegboard.core.errors import ConfigurationError, StopsUnknown
from pegboard.core.grants import read_grants
from pegboard.core.record import Denial
from pegboard.core.refusal import META_KEY
from pegboard.core.stops import LONGEST_WHY, Stops
from pegboard.testing import InMemoryHub
from pegboard.transport import streams
from tests.kit.test_gate import LEGACY, OPENINGS, rpc

pytestmark = pytest.mark.anyio

WHY = "figures of last year"


def stop(hub: InMemoryHub, **stopped: Any) -> None:
    """Stop something, as the hub's next bundle does."""
    before = hub.standings.standing
    hub.standings.standing = replace(before, access=replace(before.access, **stopped), version=before.version + 1)


async def call(hub: InMemoryHub, tool: str, person: str = "ana", groups: tuple[str, ...] = ("ads-eng",)) -> Any:
    async with hub.client(person, groups=groups) as client:
        return await client.call_tool(tool, {"text": "hi"} if tool == "echo" else {})


def refusal(result: CallToolResult) -> dict[str, Any]:
    return dict((result.meta or {})[META_KEY])


@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_stopped_server_refuses_whatever_the_request_and_says_why(hub: InMemoryHub, opening: str) -> None:
    stop(hub, stopped=WHY)
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert response.status_code == 403
    found = response.json()["error"]["data"]
    assert (found["code"], found["reason"], found["layer"]) == ("stopped", "server_stopped", "server")
    assert found["message"] == f"{hub.name} is stopped: {WHY}. Ask platform in #desk."
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert (record.code, record.reason) == ("stopped", "server_stopped")


CALLERS = {
    "surface": Stops(surfaces={"cli": WHY}),
    "client": Stops(clients={"pegboard-cli": WHY}),
    "person": Stops(people={"ana": WHY}),
}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("kind", CALLERS)
async def test_a_stopped_caller_is_refused_whatever_the_request_and_told_why(
    hub: InMemoryHub, opening: str, kind: str
) -> None:
    stop(hub, stops=CALLERS[kind])
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert response.status_code == 403
    found = response.json()["error"]["data"]
    assert (found["code"], found["reason"], found["layer"]) == ("stopped", f"{kind}_stopped", "server")
    assert f"stopped: {WHY}. Ask the operators" in found["message"]
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.reason == f"{kind}_stopped"


async def test_a_stop_of_one_caller_is_none_of_another_or_of_a_service_of_that_name(hub: InMemoryHub) -> None:
    stop(hub, stops=Stops(people={"fay": WHY}, surfaces={"chat": WHY}, clients={"other": WHY}, services={"ana": WHY}))
    assert not (await call(hub, "echo")).is_error


@pytest.mark.parametrize("who", [("gus", [], "cli"), ("ana", ["ads-eng"], "ide")])
async def test_who_could_not_reach_the_server_anyway_is_not_told_of_its_stop(
    hub: InMemoryHub, who: tuple[str, list[str], str]
) -> None:
    stop(hub, stopped=WHY)
    async with hub.http(hub.headers(*who)) as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"))
    assert response.json()["error"]["data"]["code"] == "access_denied"
    assert WHY not in response.text


async def test_a_stopped_tool_is_listed_and_refuses_with_the_reason_until_it_is_resumed(hub: InMemoryHub) -> None:
    assert not (await call(hub, "echo")).is_error
    stop(hub, stopped_tools={"echo": WHY})
    async with hub.client("ana", groups=["ads-eng"]) as client:
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}
    found = refusal(await call(hub, "echo"))
    assert (found["code"], found["reason"]) == ("stopped", "tool_stopped")
    assert found["message"] == f"echo of {hub.name} is stopped: {WHY}. Ask platform in #desk."
    assert not (await call(hub, "whoami")).is_error
    stop(hub, stopped_tools={})
    assert not (await call(hub, "echo")).is_error


@pytest.mark.parametrize("tool", ["revenue", "no_such_tool"])
async def test_a_stopped_tool_that_is_hidden_answers_as_one_that_does_not_exist(hub: InMemoryHub, tool: str) -> None:
    before = refusal(await call(hub, tool, "fay", ("finance",)))
    stop(hub, stopped_tools={"revenue": WHY, "no_such_tool": WHY})
    after = refusal(await call(hub, tool, "fay", ("finance",)))
    assert {**after, "request_id": ""} == {**before, "request_id": ""}
    assert after["code"] == "tool_unavailable"


@pytest.mark.parametrize(
    "closed",
    [
        {"stopped": WHY},
        {"stops": CALLERS["person"]},
        {"stops": CALLERS["surface"]},
        {"groups": frozenset()},
        {"surfaces": frozenset({"chat"})},
    ],
    ids=str,
)
async def test_a_stream_ends_when_its_caller_could_not_open_it_any_more(
    hub: InMemoryHub, closed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    await stream_ends(hub, lambda: stop(hub, **closed))


async def stream_ends(hub: InMemoryHub, close: Callable[[], None]) -> None:
    """Open ana's stream, do what must end it, and see it end."""
    application = hub.application()
    started = anyio.Event()

    async def send(message: Any) -> None:
        started.set()

    headers = hub.headers("ana", ["ads-eng"]) | LEGACY
    async with application.running():
        session = await _opened(application, hub, headers)
        named = {**headers, "mcp-session-id": session, "host": "pegboard.test"}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": hub.name.path,
            "raw_path": hub.name.path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(application, scope, _stays(), send)
                await started.wait()
                close()


def _stays() -> Callable[[], Awaitable[dict[str, Any]]]:
    """A client that has sent its request and does not leave."""
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop()

    return receive


async def _opened(application: Any, hub: InMemoryHub, headers: dict[str, str]) -> str:
    client = {"name": "t", "version": "1"}
    opening = rpc("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
    del opening["params"]["_meta"]
    transport = httpx2.ASGITransport(app=application)
    async with httpx2.AsyncClient(transport=transport, base_url=hub.public_url, headers=headers) as http:
        return str((await http.post(hub.name.path, json=opening)).headers["mcp-session-id"])


async def test_a_server_that_may_have_missed_its_stop_refuses_everything(hub: InMemoryHub) -> None:
    def unknown(now: float) -> Any:
        raise StopsUnknown("it was last renewed 301 s ago")

    hub.standings.current = unknown  # type: ignore[method-assign]
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"))
    assert response.status_code == 503
    found = response.json()["error"]["data"]
    assert (found["code"], found["reason"]) == ("unavailable", "stops_unknown")


def grants(line: str) -> Any:
    return read_grants(f'[servers."prod/desk"]\nsource = "x"\n{line}', "grants.toml").servers["prod/desk"]


def test_a_reason_is_one_sentence_and_ends_without_its_full_stop() -> None:
    found = grants('stopped = " Grün gerechnet, 100 % falsch. "\nstopped_tools = { echo = "moved." }')
    assert found.stopped == "Grün gerechnet, 100 % falsch"
    assert found.stopped_tools == {"echo": "moved"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('stopped = ""', "to end the stop take the line out"),
        ('stopped = " . "', "to end the stop take the line out"),
        ('stopped = "a\\r\\nx-forwarded-user: eve"', "control characters"),
        ('stopped = "a\\u001b[31m"', "control characters"),
        ('stopped = "a\\u202eb"', "control characters"),
        (f'stopped = "{"x" * (LONGEST_WHY + 1)}"', "longer than 200 characters"),
        ("stopped = true", "valid string"),
        ('stopped_tools = { echo = "" }', "stopped_tools.echo"),
        ('stopped_tools = { "no tool" = "why" }', "stopped_tools"),
        ('stoped = "why"', "did you mean 'stopped'?"),
    ],
)
def test_a_stop_without_a_fit_reason_is_a_fault_of_the_file(line: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        grants(line)
    assert fault in str(error.value)
