"""Servers that wait for people: held until something is noted of a request of theirs, by this hub or another."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pegboard_hub.approvals import store
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

FOLLOW_S = 0.25
"""How often a hub looks for what others decided, in seconds, while anybody waits for it."""

MOST_NOTED = 500
"""Entries of the history that are read at a time."""


class Waiting:
    """Who waits for which request."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._known: int | None = None
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the hub is ending, so that nobody is kept waiting."""
        return self._over

    @contextmanager
    def on(self, ids: Sequence[str]) -> Iterator[asyncio.Event]:
        """An event that is set once something happens to one of these. Begin it before looking how they are."""
        event = asyncio.Event()
        for id_ in ids:
            self._events[id_].add(event)
        if self._over:
            event.set()
        try:
            yield event
        finally:
            for id_ in ids:
                self._events[id_].discard(event)
                if not self._events[id_]:
                    del self._events[id_]

    def wake(self, ids: Iterable[str]) -> None:
        """Something happened to these."""
        for id_ in ids:
            for event in self._events.get(id_, ()):
                event.set()

    def release(self) -> None:
        """Let everybody go, now and from now on: the hub ends."""
        self._over = True
        self.wake(list(self._events))

    async def follow(self) -> None:
        """Wake for what other hubs do, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                await self.look()
            except Exception:
                log.exception("what other hubs decided could not be looked up, and is tried again")

    async def look(self) -> None:
        """Wake those of whose requests something was noted since the last look."""
        if not self._events:
            self._known = None
            return
        async with self._database.read() as db:
            if self._known is None:
                # What happened meanwhile is not known: everybody looks once.
                self._known, moved = await store.newest_event(db), set(self._events)
            else:
                self._known, moved = await store.moved_since(db, self._known, MOST_NOTED)
        self.wake(moved)
