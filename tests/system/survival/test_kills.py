"""`kill -9` of any process, in any order, under load of both eras: service comes back and the ledger is right."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from tests.system.instance import Instance
from tests.system.survival.kills import PROCESSES, kill, live_again, process
from tests.system.survival.load import Fate
from tests.system.survival.trial import under_load

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("survival"), pytest.mark.heavy]


async def test_whatever_is_killed_under_load_comes_back_and_the_ledger_holds_every_call_once(
    victim: Instance,
) -> None:
    async with under_load(victim) as trial:
        for name in random.SystemRandom().sample(PROCESSES, len(PROCESSES)):
            await trial.kill(name)


@pytest.mark.heavy
async def test_two_minutes_of_kills_two_at_once_and_all_at_once_leave_a_ledger_without_a_flaw(
    victim: Instance,
) -> None:
    pairs = list(itertools.permutations(PROCESSES, 2))
    async with under_load(victim) as trial:
        for names in [*random.SystemRandom().sample(pairs, len(pairs)), PROCESSES]:
            await trial.kill(*names)


@pytest.mark.heavy
async def test_half_a_minute_of_a_hub_killed_ten_times_in_a_row_fails_no_call(victim: Instance) -> None:
    async with under_load(victim) as trial:
        began = time.monotonic()
        for _ in range(10):
            restarts = process(victim.home, "hub")["restarts"]
            await live_again(victim.home, kill(victim.home, "hub"), restarts)
        assert [each for each in trial.since(began) if each.fate is not Fate.ACKNOWLEDGED] == []
