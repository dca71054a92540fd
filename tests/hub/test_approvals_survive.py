"""A hub that is killed at any moment of a request's life has all that it acknowledged, and claims nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from pegboard.core.approval import NEXT, State
from pegboard_hub.approvals.model import Reader, Which
from tests.hub.company import Company, Hub, opened

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.both_databases(heavy=True),
]

KILLS = ((1, 0), (2, 1), (3, 0), (5, 2), (8, 0), (13, 3), (17, 1), (22, 4))
"""After how many acknowledged steps the hub is killed, and how many milliseconds later."""

START_S = 120

Told = list[tuple[int, State, str]]


async def killed(company: Company, first: int, steps: int, after_ms: int) -> Told:
    """Let requests live in a hub of its own and kill it; what it had acknowledged."""
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.hub.approvals_life", str(company.home.root), str(company.grants)]
    child = await asyncio.create_subprocess_exec(
        *command, company.database_url, str(first), stdout=asyncio.subprocess.PIPE, cwd=repository
    )
    assert child.stdout is not None
    told: Told = []
    try:
        async with asyncio.timeout(START_S):
            while len(told) < steps:
                line = await child.stdout.readline()
                assert line, "it ended by itself"
                told.append(_read(line))
        await asyncio.sleep(after_ms / 1000)  # a moment, not a wait for anything
    finally:
        os.kill(child.pid, signal.SIGKILL)
        rest, _ = await child.communicate()
    return told + [_read(line) for line in rest.splitlines() if line.count(b" ") == 2 and len(line.split()[2]) == 32]


def _read(line: bytes) -> tuple[int, State, str]:
    number, state, id_ = line.decode().split()
    return int(number), State(state), id_


async def test_whatever_was_acknowledged_is_there_and_nothing_is_claimed_twice(company: Company) -> None:
    acknowledged: Told = []
    first = 0
    for steps, after_ms in KILLS:
        told = await killed(company, first, steps, after_ms)
        acknowledged += told
        # The next begins with what the killed one was at: a caller repeats what it got no answer to.
        first = max(number for number, _, _ in told)
    async with opened(company) as hub:
        await check(hub, acknowledged)


async def check(hub: Hub, acknowledged: Told) -> None:
    everybody = Reader("nobody", (), sees_all=True)
    approvals = hub.parts.approvals
    paths: dict[str, list[State]] = {}
    for _, state, id_ in acknowledged:
        request = await approvals.find(everybody, id_)
        assert request is not None
        paths[id_] = [event.after for event in request.events]
        assert state in paths[id_], f"{id_} was acknowledged as {state}"
        assert request.state is paths[id_][-1]
        assert paths[id_].count(State.CLAIMED) <= 1
        assert all(after in NEXT[before] for before, after in zip(paths[id_], paths[id_][1:], strict=False))
    claims: dict[str, str] = {}
    page = await approvals.history(everybody, 200)
    requests = page.requests
    while page.after is not None:
        page = await approvals.history(everybody, 200, page.after, Which())
        requests = [*requests, *page.requests]
    for request in requests:
        if request.call_id:
            assert claims.setdefault(request.call_id, request.id) == request.id, "one call, one claim"
    assert set(map(tuple, paths.values())) >= {
        (State.REQUESTED, State.APPROVED, State.CLAIMED, State.DONE),
        (State.REQUESTED, State.REJECTED),
        (State.REQUESTED, State.WITHDRAWN),
        (State.REQUESTED, State.APPROVED, State.CLAIMED, State.UNKNOWN, State.DONE),
    }
