"""A hub that is killed at any moment of a submission's way has all that it acknowledged, and goes on where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pegboard.core.publishing import NEXT, UNDER_WAY, State
from pegboard_hub.publishing.submissions import Submission
from tests.hub.company import Company, Hub, opened
from tests.hub.publishing_life import PROD, built, decided
from tests.hub.publishing_rig import states, work
from tests.hub.reviewing import server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.both_databases(heavy=True),
]

KILLS = ((1, 0), (2, 1), (4, 0), (6, 3), (9, 0), (12, 7), (16, 2), (21, 5))
"""After how many acknowledged steps the hub is killed, and how many milliseconds later."""

START_S = 120

Told = list[tuple[int, State, str]]


async def killed(company: Company, first: int, steps: int, after_ms: int) -> Told:
    """Let submissions live in a hub of its own and kill it; what it had acknowledged."""
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.hub.publishing_life", str(company.home.root), str(company.grants)]
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
    return told + [_read(line) for line in rest.splitlines() if line.count(b" ") == 2 and len(line.split()[2]) == 16]


def _read(line: bytes) -> tuple[int, State, str]:
    number, state, id_ = line.decode().split()
    return int(number), State(state.replace("-", " ")), id_


async def test_whatever_was_acknowledged_is_there_and_goes_on(company: Company) -> None:
    acknowledged: Told = []
    first = 0
    for steps, after_ms in KILLS:
        told = await killed(company, first, steps, after_ms)
        acknowledged += told
        # The next begins with what the killed one was at: a command repeats what it got no answer to.
        first = max(number for number, _, _ in told)
    async with opened(company) as hub:
        await check(hub, acknowledged, first)


async def check(hub: Hub, acknowledged: Told, last: int) -> None:
    await work(hub)
    every = await hub.parts.publishing.listed(PROD, limit=1000)
    known = {each.id: each for each in every}
    paths = {each.id: [State(state) for state in await states(hub, each.id)] for each in every}
    for _, state, id_ in acknowledged:
        assert state in paths[id_], f"{id_} was told to be {state}"
    for id_, path in paths.items():
        assert path[0] is State.SUBMITTED
        assert path[-1] is known[id_].state
        assert all(after in NEXT[before] for before, after in pairwise(path)), path
        assert (known[id_].signature is not None) is (State.CHECKED in path)
    assert sum(each.state is State.IN_REVIEW for each in every) <= 1
    # One that is not over yet goes on.
    for each in every:
        for _ in range(5 if each.state is State.SUBMITTED else 0):
            # The killed one's clock may have been ahead of this one's by any part of a claim.
            await built(hub, last)
            await work(hub)
    if server(hub, PROD).waiting is not None:
        await decided(hub, yes=True)
    after = {each.id: each for each in await hub.parts.publishing.listed(PROD, limit=1000)}
    left = [each for each in after.values() if each.state in UNDER_WAY - {State.APPROVED}]
    assert left == [], [(each.id, each.state) for each in left]
    assert _approved(after.values())


def _approved(found: object) -> list[Submission]:
    return [each for each in found if each.state is State.APPROVED]  # type: ignore[attr-defined]
