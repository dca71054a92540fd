"""Beginning and ending asyncio tasks that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""Seconds after which a task that goes on is cancelled once more."""


async def end(*tasks: asyncio.Task[Any], tidily: bool = False) -> None:
    """Cancel tasks, and wait until each has ended, whatever it ended with.

    One cancellation can be lost: where a library's own timeout runs out in the same moment, it takes the one for the
    other, and the task goes on.

    Args:
        tasks: to end.
        tidily: they tidy up after themselves, as processes that they started, and are not cut short at that by a
            second cancellation.
    """
    if tidily:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def begin(work: Coroutine[Any, Any, None], name: str, over: Callable[[], None] = lambda: None) -> asyncio.Task[None]:
    """Begin what goes on by itself, as nobody waits for it.

    Should it break off, that is logged: what it did is not done any more, and nobody else would notice.

    Args:
        work: what to do.
        name: of it, for the log.
        over: told, should it break off.
    """

    def tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s broke off: %s", name, error, exc_info=error)
            over()

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(tell)
    return task
