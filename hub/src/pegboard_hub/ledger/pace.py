"""How much a server may deliver: no author's code fills the disk of the ledger, whatever it says of itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pegboard_hub.ledger.errors import DeliveredTooMuch

log = logging.getLogger(__name__)

AN_HOUR: Final = 512 * 1024 * 1024
"""Bytes of records that one server may deliver within an hour, all at once or bit by bit: half a million calls."""

HOUR_S: Final = 3600.0

TELL_S: Final = 600.0
"""Seconds between two lines in the log about one server."""


class _Left(NamedTuple):
    size: float
    at: float
    told_at: float


class Pace:
    """What each server may still deliver now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, _Left] = {}

    def take(self, server: str, size: int) -> None:
        """Take note of so many bytes that a server delivers.

        Raises:
            DeliveredTooMuch: it delivered as much as it may; it keeps them, and delivers them later.
        """
        now = self._clock()
        before = self._left.get(server, _Left(AN_HOUR, now, -TELL_S))
        left = min(AN_HOUR, before.size + (now - before.at) * AN_HOUR / HOUR_S)
        if size <= left:
            self._left[server] = _Left(left - size, now, before.told_at)
            return
        told_at = before.told_at
        if now - told_at >= TELL_S:
            log.error("a server delivers more records than it may; they wait with it", extra={"server": server})
            told_at = now
        self._left[server] = _Left(left, now, told_at)
        raise DeliveredTooMuch(f"{server} delivered {AN_HOUR // 2**20} MiB of records within an hour")
