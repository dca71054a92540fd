"""Processes that hang rather than die, and a way that is cut."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pegboard.core.names import ServerName
from tests.system.instance import Instance
from tests.system.survival.audit import digest, rows
from tests.system.survival.kills import Kill, innermost, live_again, process
from tests.system.survival.load import Fate
from tests.system.survival.trial import Trial, under_load

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("survival")]

ENOUGH = 40
"""Calls that must be answered while the hub hangs."""


async def test_while_the_hub_hangs_no_call_fails_and_the_records_wait(victim: Instance) -> None:
    async with under_load(victim) as trial:
        with hanging(innermost(victim.home, "hub")):
            began = time.monotonic()
            async with asyncio.timeout(60):
                while len(trial.since(began)) < ENOUGH:
                    await asyncio.sleep(0.05)
            answered = trial.since(began)
            arrived = {row.digest for row in rows(victim.home)}
        assert {each.fate for each in answered} == {Fate.ACKNOWLEDGED}
        assert not any(digest(victim.home, each) in arrived for each in answered)


@pytest.mark.heavy
async def test_a_server_that_hangs_for_half_a_minute_is_started_again_and_others_notice_nothing(
    victim: Instance,
) -> None:
    async with under_load(victim) as trial:
        with hanging(innermost(victim.home, "dev/scratch")):
            await noticed(trial, "dev/scratch")


@pytest.mark.heavy
async def test_a_server_whose_socket_is_gone_for_half_a_minute_is_started_again_and_others_notice_nothing(
    victim: Instance,
) -> None:
    async with under_load(victim) as trial:
        victim.home.socket(ServerName("dev", "scratch")).unlink()
        await noticed(trial, "dev/scratch")


async def noticed(trial: Trial, name: str) -> None:
    """Wait until the supervisor has started a server again; meanwhile the other one has answered every call."""
    home, began = trial.instance.home, Kill(name, time.time(), time.monotonic())
    await live_again(home, began, process(home, name)["restarts"])
    trial.kills.append(Kill(name, time.time(), time.monotonic()))
    await trial.every_server_answers(time.monotonic())
    others = [each for each in trial.since(began.moment) if each.server != name]
    assert {each.fate for each in others} == {Fate.ACKNOWLEDGED}


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have been killed for hanging
            os.kill(pid, signal.SIGCONT)
