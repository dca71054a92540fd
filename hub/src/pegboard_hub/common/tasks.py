"""Ending asyncio tasks."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.5
"""Seconds after which a task that goes on is cancelled once more."""


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until each has ended, whatever it ended with.

    One cancellation can be lost: where a library's own timeout runs out in the same moment, it takes the one for the
    other, and the task goes on.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
