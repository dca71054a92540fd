"""What a runtime and the hub say to each other, for any runtime: the hub's word comes in, what is observed goes out.

Neither waits for the other, and neither remembers: while the hub is away what runs goes on by its last word, and when
it is back it is told all of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from pegboard_hub.publishing.orders import LONGEST_WAIT_S, Observed
from pegboard_hub.runtime.hub_door import HubAway, HubDoor, NotOurs, ResultRefused
from pegboard_hub.runtime.interface import Runtime

logger = logging.getLogger(__name__)

TELL_S = 5.0
"""How often it is told what is observed where nothing changes, in seconds."""

SOONEST_S = 0.2
"""Between two times that it is told, in seconds."""

CHANGING_S = 1.0
"""How often it is looked at whether something changed, in seconds: figures change without an event."""

AGAIN_S = 1.0
LONGEST_AGAIN_S = 10.0
"""The first and the longest pause while the hub is away, in seconds."""


class Conversation:
    """Keeps one runtime in line with the hub, until cancelled.

    Args:
        hub: its internal door.
        runtime: what brings about what it desires.
        wait_s: for how long the hub may hold a question open.
    """

    def __init__(self, hub: HubDoor, runtime: Runtime, wait_s: float = LONGEST_WAIT_S) -> None:
        self._hub = hub
        self._runtime = runtime
        self._wait_s = wait_s

    async def run(self) -> None:
        """Talk until cancelled. Nothing that the hub says or does not say ends it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_again_and_again(self._listen, "what should run cannot be had"), name="listen")
            tasks.create_task(_again_and_again(self._tell, "what runs cannot be told"), name="tell")

    async def _listen(self) -> None:
        known = ""
        while True:
            desired = await self._hub.desired(known, self._wait_s)
            if desired is not None:
                await self._runtime.bring_about(desired)
                known = desired.version

    async def _tell(self) -> None:
        told: Observed | None = None
        told_at = 0.0
        while True:
            observed = await self._runtime.observed()
            # Before the first word nothing runs, and that is not what there is: it would end what the hub knows of.
            if observed.version and (_essence(observed) != told or time.monotonic() - told_at >= TELL_S):
                await self._hub.observed(observed)
                told, told_at = _essence(observed), time.monotonic()
            await asyncio.sleep(SOONEST_S)
            await self._runtime.changed(CHANGING_S)


def _essence(observed: Observed) -> Observed:
    """Without what changes all the time, and is told often enough."""
    releases = tuple(
        each.model_copy(
            update={"replicas": tuple(one.model_copy(update={"memory_mb": None}) for one in each.replicas)}
        )
        for each in observed.releases
    )
    return observed.model_copy(update={"releases": releases})


async def _again_and_again(talk: Callable[[], Awaitable[None]], trouble: str) -> None:
    """Talk, and begin anew whenever it breaks off; what it broke off by is said once."""
    pause, said = AGAIN_S, ""
    while True:
        began = time.monotonic()
        try:
            await talk()
        except (HubAway, NotOurs, ResultRefused) as error:
            if (words := str(error)) != said:
                logger.warning("%s, and is tried again: %s", trouble, words)
            said = words
        except Exception:
            logger.exception("%s, and is tried again", trouble)
        pause = AGAIN_S if time.monotonic() - began > LONGEST_AGAIN_S else min(pause * 2, LONGEST_AGAIN_S)
        await asyncio.sleep(pause)
