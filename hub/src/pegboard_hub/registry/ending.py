"""The end of a server that is deprecated: when it closes, what takes its place, and closing it by itself.

deprecated, with a date ── callers are told with every result ──▶ the date comes ──▶ retired: nobody can call it
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.service import Registry

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Seconds between two looks for what has come to its end."""

LONGEST_MS: Final = 2 * 366 * 86_400_000
"""Milliseconds within which a deprecated server closes: who says three years says never."""

CLOSED: Final = "its end has come"


@dataclass(frozen=True, slots=True)
class Ending:
    """When a deprecated server closes, in milliseconds since the epoch, and what takes its place."""

    ends_at_ms: int | None = None
    successor: str | None = None


NO_ENDING: Final = Ending()


def check_ending(
    ending: Ending, server: RegisteredServer, servers: Mapping[str, RegisteredServer], now_ms: int
) -> Ending:
    """An ending as it can be kept.

    Raises:
        ChangeRefused: its date is over or too far away, or nobody can call what is to take its place.
    """
    if ending.ends_at_ms is not None and not now_ms < ending.ends_at_ms <= now_ms + LONGEST_MS:
        raise ChangeRefused("ends_at", "it is over already, or more than two years away", "Choose another date.")
    successor = servers.get(ending.successor or "")
    if ending.successor is None:
        return ending
    if ending.successor == str(server.name):
        raise ChangeRefused("successor", "it is the server itself", "Name what is to be used instead.")
    # Of one that was never published nobody learns here that it is there.
    if successor is None or not successor.published or successor.lifecycle is Lifecycle.RETIRED:
        raise ChangeRefused("successor", "there is no such server", "Name one that can be called, as prod/presto.")
    return ending


class Closing:
    """Retires what has come to its end.

    Args:
        registry: has the servers.
        leads: whether this hub is the one that does.
        clock: seconds since the epoch.
    """

    def __init__(
        self, registry: Registry, leads: Callable[[], bool] = lambda: True, clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._leads = leads
        self._clock = clock

    async def close_due(self) -> None:
        """Retire every deprecated server whose date has come."""
        now_ms = int(self._clock() * 1000)
        for server in self._registry.current.servers.values():
            if not _due(server, now_ms):
                continue
            name = str(server.name)
            async with self._registry.changing() as changing:
                if _due(changing.server(name), now_ms):
                    why = f"{CLOSED}: use {server.successor} instead" if server.successor else CLOSED
                    values = {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": why}
                    await changing.apply(Change(name, PEGBOARD, "retire", CLOSED, values=values))
            log.warning("closed", extra={"server": name, "why": why})

    async def keep(self) -> None:
        """Close what is due, until cancelled."""
        while True:
            try:
                if self._leads():
                    await self.close_due()
            except Exception:
                log.exception("servers whose end has come could not be closed, and are tried again")
            await asyncio.sleep(LOOK_S)


def _due(server: RegisteredServer, now_ms: int) -> bool:
    ends = server.ends_at_ms
    return server.lifecycle is Lifecycle.DEPRECATED and ends is not None and ends <= now_ms
