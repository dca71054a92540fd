"""The time by which requests expire."""

from __future__ import annotations

import time
from collections.abc import Callable

SKEW_MS = 60_000
"""How far two hubs' clocks may be apart, in milliseconds, before a time that another wrote cannot be believed."""


class SteadyClock:
    """Milliseconds since the epoch that never go back while the process runs.

    A clock that is set forward expires what waits, which is safe; one that is set back must not give a yes a longer
    life. So this one takes over what the machine's clock says only where that is later than its own count.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._at_s, self._then_s = clock(), monotonic()

    def now_ms(self) -> int:
        """The time now."""
        here = self._monotonic()
        self._at_s, self._then_s = max(self._clock(), self._at_s + here - self._then_s), here
        return int(self._at_s * 1000)
