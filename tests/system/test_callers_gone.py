"""A query that would take an hour ends when nobody waits for it any more, seen from outside the real edge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from pegboard.core.refusal import META_KEY
from pegboard_hub.runtime import procfs
from tests.attacks.wire import ACCEPT, LEGACY, initialize, legacy
from tests.system.instance import Instance

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("instance")]

SERVER = "prod/presto"
AN_HOUR = "SELECT count(*) FROM flights a, flights b, flights c WHERE a.distance + b.distance > c.distance"
"""336,776³ pairs: hours of work, which the time limit would end after 20 s."""

PER_CALLER = 2
PATIENCE_S = 15.0
"""Below the server's own time limit of 20 s, which must not be what ends the query."""

SLOW_MACHINE_S = 60.0
"""For what has no limit of its own: a client's start, a record's way to the ledger."""

CALLER = """
import sys, anyio, httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

async def main(url, token, mode, sql):
    async with httpx2.AsyncClient(headers={"authorization": "Bearer " + token}, timeout=60) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            print(await client.call_tool("run_query", {"sql": sql}), flush=True)

anyio.run(main, *sys.argv[1:])
"""

ERAS = pytest.mark.parametrize("mode", ["2026-07-28", "legacy"], ids=["modern", "legacy"])


@contextmanager
def caller(pegboard: Instance, person: str, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    """A person's client in a process of its own, asking for an hour's work."""
    words = [f"{pegboard.public_url}/mcp/{SERVER}", pegboard.token(person, SERVER), mode, AN_HOUR]
    process = subprocess.Popen([sys.executable, "-c", CALLER, *words], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def client(pegboard: Instance, person: str, mode: str, token: str = "") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token or pegboard.token(person, SERVER)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{pegboard.public_url}/mcp/{SERVER}", http_client=http)
        async with Client(transport, mode=mode) as connected:
            yield connected


def server_pid(pegboard: Instance) -> int:
    status = json.loads(pegboard.home.status.read_text(encoding="utf-8"))
    return next(int(process["pid"]) for process in status["processes"] if process["name"] == SERVER)


def cpu_s(pegboard: Instance) -> float:
    """Seconds of processor time that the server has used since it started."""
    ticks = 0
    for pid in procfs.tree(server_pid(pegboard)):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def records(pegboard: Instance, person: str, since_s: float) -> list[dict[str, Any]]:
    """The ledger's calls of `run_query` by this person since a time in seconds, newest first."""
    answer = httpx2.get(
        f"{pegboard.public_url}/api/v1/calls",
        params={"server": SERVER},
        headers={"authorization": f"Bearer {pegboard.token(person, 'api')}"},
    )
    found = answer.raise_for_status().json()["calls"]
    mine = [call for call in found if call["person"] == person and call["tool"] == "run_query"]
    return [call for call in mine if call["at"] >= since_s * 1000]


async def wait_for(what: str, holds: Callable[[], bool], patience_s: float = SLOW_MACHINE_S) -> None:
    """Until `holds`, asked five times a second."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        await anyio.sleep(0.2)


async def works_hard(pegboard: Instance) -> None:
    """Until the server has used half a second of processor time from now on: the query runs."""
    before = cpu_s(pegboard)
    await wait_for("the query runs", lambda: cpu_s(pegboard) > before + 0.5)


async def rests(pegboard: Instance) -> None:
    """Until the server uses less than a tenth of a processor for half a second."""

    def resting() -> bool:
        before, began = cpu_s(pegboard), time.monotonic()
        time.sleep(0.5)  # a rate needs a span
        return cpu_s(pegboard) - before < 0.1 * (time.monotonic() - began)

    await wait_for("the engine's work ends", resting, PATIENCE_S)


def last(pegboard: Instance, person: str, since_s: float) -> str:
    return next(iter([call["status"] for call in records(pegboard, person, since_s)]), "none")


@ERAS
async def test_a_query_ends_when_its_caller_is_killed_and_the_place_is_free_again(
    pegboard: Instance, mode: str
) -> None:
    # Calls that others of these tests made may still be on their way to the ledger.
    began_s = time.time()
    with caller(pegboard, "fay", mode) as asking:
        await works_hard(pegboard)
        asking.kill()
        await rests(pegboard)
    await wait_for("the ledger says so", lambda: last(pegboard, "fay", began_s) == "cancelled")
    assert len(records(pegboard, "fay", began_s)) == 1, "one call, one record"
    async with client(pegboard, "fay", mode) as again, anyio.create_task_group() as group:
        for _ in range(PER_CALLER):
            group.start_soon(_counts_flights, again)


@ERAS
async def test_a_client_that_cancels_one_call_ends_that_query_and_goes_on(pegboard: Instance, mode: str) -> None:
    began_s = time.time()
    async with client(pegboard, "ana", mode) as asking:
        async with anyio.create_task_group() as group:
            group.start_soon(asking.call_tool, "run_query", {"sql": AN_HOUR})
            await works_hard(pegboard)
            group.cancel_scope.cancel()
        await rests(pegboard)
        await wait_for("the ledger says so", lambda: last(pegboard, "ana", began_s) == "cancelled")
        await _counts_flights(asking)


TOKEN_S = 2


@ERAS
async def test_a_query_ends_with_the_token_it_was_called_with_and_says_so(pegboard: Instance, mode: str) -> None:
    began_s, issued = time.time(), time.monotonic()
    async with client(pegboard, "pat", mode, pegboard.token("pat", SERVER, lifetime_s=TOKEN_S)) as asking:
        began = time.monotonic()
        answer = await asking.call_tool("run_query", {"sql": AN_HOUR})
        ended = time.monotonic()
    assert isinstance(answer, CallToolResult)
    assert answer.meta is not None
    assert answer.meta[META_KEY]["reason"] == "token_expired"
    assert ended - issued > TOKEN_S - 1
    assert ended - began < PATIENCE_S
    await rests(pegboard)
    await wait_for("the ledger says so", lambda: last(pegboard, "pat", began_s) == "cancelled")
    assert len(records(pegboard, "pat", began_s)) == 1, "one call, one record"


async def test_a_session_lives_on_when_its_caller_renews_the_token(pegboard: Instance) -> None:
    first = pegboard.token("ana", SERVER, lifetime_s=TOKEN_S)
    session = initialize(pegboard, first)
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    with pytest.raises(httpx2.RemoteProtocolError), stream(pegboard, first, session) as opened:
        for _ in opened.iter_raw():
            pass
    await wait_for("the first token ends", lambda: legacy(pegboard, first, ping, session).status_code == 401)
    second = pegboard.token("ana", SERVER)
    assert legacy(pegboard, second, ping, session).status_code == 200
    with stream(pegboard, second, session) as opened:
        assert opened.status_code == 200


def stream(pegboard: Instance, token: str, session: str) -> AbstractContextManager[httpx2.Response]:
    """The stream of an older session, on which a server may speak first."""
    sent = {**ACCEPT, "mcp-protocol-version": LEGACY, "authorization": f"Bearer {token}", "mcp-session-id": session}
    return httpx2.stream("GET", f"{pegboard.public_url}/mcp/{SERVER}", headers=sent, timeout=PATIENCE_S)


async def _counts_flights(asking: Client) -> None:
    answer = await asking.call_tool("run_query", {"sql": "SELECT count(*) FROM flights"})
    assert isinstance(answer, CallToolResult)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    assert answer.structured_content["rows"] == [[336_776]]
