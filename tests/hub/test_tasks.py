"""Ending tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from pegboard_hub.common import tasks
from pegboard_hub.common.tasks import end

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
