"""Who waits for news of something, by its name. What happens in this process wakes them; for all else they look."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_S: Final = 0.5
"""How often those who wait look for what another process did, in seconds."""


class Waiting:
    """Who waits for what."""

    def __init__(self, *, alone: bool) -> None:
        """Prepare.

        Args:
            alone: whether no other process does anything that somebody waits for here.
        """
        self._alone = alone
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._over = False

    def wake(self, keys: Iterable[str]) -> None:
        """Something happened to these."""
        for key in keys:
            for event in self._events.get(key, ()):
                event.set()

    def release(self) -> None:
        """Let everybody go, now and from now on: the process ends."""
        self._over = True
        self.wake(list(self._events))

    async def until(
        self,
        key: str,
        look: Callable[[], Awaitable[T]],
        found: Callable[[T], bool],
        wait_s: float,
        nap_s: float = 60.0,
    ) -> T:
        """What a look gives once there is something, or after `wait_s` seconds whatever it gives.

        Args:
            key: what is waited for.
            look: asks how it is.
            found: whether that is what is waited for.
            wait_s: seconds.
            nap_s: seconds after which to look again although nobody said that something happened.
        """
        ends = asyncio.get_running_loop().time() + wait_s
        event = asyncio.Event()
        self._events[key].add(event)
        try:
            while True:
                event.clear()
                seen = await look()
                left = ends - asyncio.get_running_loop().time()
                if found(seen) or left <= 0 or self._over:
                    return seen
                nap = min(left, nap_s if self._alone else min(nap_s, LOOK_S))
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), nap)
        finally:
            self._events[key].discard(event)
            if not self._events[key]:
                del self._events[key]
