"""Tasks that nobody waits for: how they begin, break off and end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from pegboard_hub.common import tasks
from pegboard_hub.common.tasks import begin, end

pytestmark = pytest.mark.anyio


async def test_a_task_that_loses_a_cancellation_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    lost = 0

    async def loses_two() -> None:
        nonlocal lost
        while lost < 2:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            lost += 1
        await asyncio.Event().wait()

    async def fails() -> None:
        raise ValueError

    going = [asyncio.create_task(loses_two()), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(*going)
    assert lost == 2
    assert going[0].cancelled()


async def test_a_task_that_breaks_off_is_told_of_and_one_that_was_ended_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    over = asyncio.Event()

    async def breaks() -> None:
        raise ValueError("no room")

    async def goes_on() -> None:
        await asyncio.Event().wait()

    broken, other = begin(breaks(), "keeping things", over.set), begin(goes_on(), "something else", over.set)
    await asyncio.wait_for(over.wait(), 10)
    over.clear()
    await end(broken, other)
    assert not over.is_set()
    assert [each.message for each in caplog.records] == ["keeping things broke off: no room"]


async def test_a_task_that_tidies_up_is_not_cut_short_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.001)
    tidied, begun, room = False, asyncio.Event(), asyncio.Event()

    async def tidies() -> None:
        nonlocal tidied
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().call_later(0.02, room.set)
            await room.wait()
            tidied = True

    task = asyncio.create_task(tidies())
    await begun.wait()
    await end(task, tidily=True)
    assert tidied
