"""The stops of callers, as they are in force: what bundles carry, and what the hub's own doors refuse by."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping

from pegboard.core.stops import CALLER_KINDS, NOTHING_STOPPED, Stops
from pegboard_hub.stopping import store
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

FOLLOW_S = 0.25
"""How often a hub looks for what others stopped, in seconds: a stop is to hold everywhere within two."""


class CallerStops:
    """Stops of surfaces, people, clients and services.

    Attributes:
        current: what is stopped now. Of a client it names the software and every id that it has.
        ordered: how many of each kind, a client once however many ids it has.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[], None]] = []
        self._known = 0
        # Of two that look, the one that looked first must not have the last word.
        self._one_at_a_time = asyncio.Lock()
        self.current = NOTHING_STOPPED
        self.ordered: Mapping[str, int] = {}

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` told whenever something was stopped or resumed."""
        self._listeners.append(listener)

    async def reload(self) -> None:
        """Take over what the table says, and tell the listeners of a change."""
        async with self._one_at_a_time:
            await self._reload()

    async def _reload(self) -> None:
        async with self._database.read() as db:
            known = await store.newest(db)
            found: dict[str, dict[str, str]] = {kind: {} for kind in CALLER_KINDS}
            ordered = await store.orders(db)
            for stop in ordered:
                if stop.kind == "client":
                    found["client"] |= dict.fromkeys(await store.ids_of(db, stop.name), stop.why)
                elif stop.kind in found:
                    found[stop.kind][stop.name] = stop.why
        self._known = known
        self.ordered = Counter(stop.kind for stop in ordered)
        stops = Stops(found["surface"], found["person"], found["client"], found["service"])
        before, self.current = self.current, stops
        if before != self.current:
            for listener in self._listeners:
                listener()

    async def follow(self) -> None:
        """Take over what other hubs stop and resume, until cancelled."""
        while True:
            try:
                async with self._database.read() as db:
                    newest = await store.newest(db)
                if newest != self._known:
                    await self.reload()
            except Exception:
                log.exception("what is stopped could not be looked up, and is tried again")
            await asyncio.sleep(FOLLOW_S)
