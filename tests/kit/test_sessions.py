"""Sessions of the older protocol: bounded for each caller and in all, and never another's."""

from __future__ import annotations

import itertools

import anyio
import httpx2
import pytest

from pegboard import Server, authorize_tool
from pegboard.testing import InMemoryHub
from pegboard.transport import sdk, sessions

pytestmark = pytest.mark.anyio

LEGACY = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
OF_ONE, IN_ALL = 2, 5


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS_OF_ONE", OF_ONE)
    monkeypatch.setattr(sdk, "MAX_SESSIONS", IN_ALL)


@pytest.fixture
def done() -> anyio.Event:
    """Ends the calls of the tool `wait`."""
    return anyio.Event()


@pytest.fixture
def server(server: Server, done: anyio.Event) -> Server:

    @server.tool()
    @authorize_tool(policy="granted")
    async def wait() -> str:
        """Wait."""
        await done.wait()
        return "done"

    return server


class Legacy:
    """Requests of the older protocol, as their bytes go."""

    def __init__(self, hub: InMemoryHub, http: httpx2.AsyncClient) -> None:
        self._hub = hub
        self._http = http
        self._ids = itertools.count(1)

    async def send(
        self, person: str, method: str, session: str = "", surface: str = "cli", **params: object
    ) -> httpx2.Response:
        headers = self._hub.headers(person, ["ads-eng"], surface) | LEGACY
        # One client on all surfaces, so that it is not what tells sessions apart.
        headers["authorization"] = f"Bearer {self._hub.token(person, ['ads-eng'], surface, client_id='one')}"
        headers |= {"mcp-session-id": session} if session else {}
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        return await self._http.post(self._hub.name.path, json=body, headers=headers)

    async def open(self, person: str, surface: str = "cli") -> str:
        answer = await self.send(person, "initialize", surface=surface, **HELLO)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["mcp-session-id"])

    async def wait(self, person: str, session: str) -> None:
        """Call the tool that waits; its answer must come."""
        answer = await self.send(person, "tools/call", session, name="wait", arguments={})
        assert '"text":"done"' in answer.text

    async def lives(self, person: str, session: str, surface: str = "cli") -> bool:
        status = (await self.send(person, "ping", session, surface)).status_code
        assert status in (200, 404)
        return status == 200


async def test_a_further_session_of_one_caller_replaces_the_oldest_and_nobody_elses(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        legacy = Legacy(hub, http)
        others, in_chat = await legacy.open("fay"), await legacy.open("ana", "chat")
        own = [await legacy.open("ana") for _ in range(OF_ONE + 1)]
        assert [await legacy.lives("ana", session) for session in own] == [False, *[True] * OF_ONE]
        assert await legacy.lives("fay", others)
        assert await legacy.lives("ana", in_chat, "chat")


async def test_a_session_with_a_call_under_way_is_not_the_one_that_is_replaced(
    hub: InMemoryHub, done: anyio.Event
) -> None:
    async with hub.http() as http, anyio.create_task_group() as group:
        legacy = Legacy(hub, http)
        busy, idle = await legacy.open("ana"), await legacy.open("ana")
        group.start_soon(legacy.wait, "ana", busy)
        await anyio.wait_all_tasks_blocked()
        third = await legacy.open("ana")
        assert [await legacy.lives("ana", session) for session in (busy, idle, third)] == [True, False, True]
        done.set()


async def test_a_caller_whose_sessions_are_all_busy_gets_no_further_one_until_a_call_ends(
    hub: InMemoryHub, done: anyio.Event
) -> None:
    async with hub.http() as http:
        legacy = Legacy(hub, http)
        async with anyio.create_task_group() as group:
            for _ in range(OF_ONE):
                group.start_soon(legacy.wait, "ana", await legacy.open("ana"))
                await anyio.wait_all_tasks_blocked()
            refused = await legacy.send("ana", "initialize", **HELLO)
            assert refused.status_code == 503, refused.text
            assert "mcp-session-id" not in refused.headers
            await legacy.open("fay")
            done.set()
        await legacy.open("ana")


async def test_all_callers_together_have_no_more_than_the_server_keeps(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        legacy = Legacy(hub, http)
        kept = [(f"person-{number}", await legacy.open(f"person-{number}")) for number in range(IN_ALL)]
        assert (await legacy.send("one-more", "initialize", **HELLO)).status_code == 503
        assert all([await legacy.lives(person, session) for person, session in kept])


@pytest.mark.parametrize(("person", "surface"), [("fay", "cli"), ("ana", "chat")])
async def test_anothers_session_and_one_that_never_was_are_answered_alike(
    hub: InMemoryHub, person: str, surface: str
) -> None:
    async with hub.http() as http:
        legacy = Legacy(hub, http)
        session = await legacy.open("ana")
        answers = []
        for tried in (session, "0" * len(session)):
            answer = await legacy.send(person, "ping", tried, surface)
            answers.append((answer.status_code, answer.text, dict(answer.headers)))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert await legacy.lives("ana", session)
