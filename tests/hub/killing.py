"""A hub of its own that lives whole lives and tells each step, until it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.hub.company import Company

START_S = 120

Step = tuple[int, str, str]
"""Number of the life, state, and id of what is in it."""


async def killed(module: str, company: Company, first: int, steps: int, after_ms: int, *more: str) -> list[Step]:
    """Let a module's lives be lived in a hub of its own and kill it; what it had acknowledged.

    Args:
        module: under `tests.hub`, which prints each step.
        company: whose hub it is.
        first: number of the first life.
        steps: after how many of them it is killed.
        after_ms: how many milliseconds later.
        *more: arguments of the module.
    """
    command = [sys.executable, "-m", f"tests.hub.{module}", str(company.home.root), str(company.grants)]
    child = await asyncio.create_subprocess_exec(
        *command,
        company.database_url,
        str(first),
        *more,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    told: list[Step] = []
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
    return told + [_read(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]


async def killed_again_and_again(module: str, company: Company, kills: tuple[tuple[int, int], ...]) -> list[Step]:
    """As `killed`, once for each of `kills` (steps, milliseconds); each begins with what the one before was at.

    A caller repeats what it got no answer to.
    """
    acknowledged: list[Step] = []
    for steps, after_ms in kills:
        first = max((number for number, _, _ in acknowledged), default=0)
        acknowledged += await killed(module, company, first, steps, after_ms)
    return acknowledged


def _read(line: bytes) -> Step:
    number, state, id_ = line.decode().split()
    return int(number), state.replace("-", " "), id_
