"""What runtimes say that runs: heard by this hub, and kept for the one that leads after it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing.orders import Observed
from pegboard_hub.publishing.rollout import FRESH_S, NOTHING, Running
from pegboard_hub.storage.database import Database

KEEP_S: Final = 5.0
"""Seconds after which what a runtime said is kept although nothing in it is new."""

_KEPT: Final = "kept"
"""Step of what is known from before a restart."""


class Heard:
    """What runs, as its runtimes said last.

    Attributes:
        news: how often something was news.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[str, str], Running] = {}
        self._of_runtime: dict[str, Observed] = {}
        self._kept_at_ms: dict[str, int] = {}
        self._heard_at_ms: dict[str, int] = {}
        self.news = 0

    async def begin(self, connection: AsyncConnection) -> None:
        """Begin with what the tables say from last time, as the hub that leads."""
        kept = await store.load_running(connection)
        self._seen = {key: replace(running, step=_KEPT) for key, running in kept.items()}
        self._of_runtime.clear()

    async def follow(self, connection: AsyncConnection) -> None:
        """Know what another hub heard."""
        self._seen = await store.load_running(connection)

    async def take(self, observed: Observed, now_ms: int) -> bool:
        """Take a runtime's word; returns whether there is news in it.

        Raises:
            StorageUnavailable: the database takes no writes; it counts all the same, until the next word.
        """
        changed = self._hear(observed, now_ms)
        if changed or now_ms - self._kept_at_ms.get(observed.runtime, 0) >= KEEP_S * 1000:
            async with self._database.write() as connection:
                await store.save_observed(connection, observed, now_ms)
            self._kept_at_ms[observed.runtime] = now_ms
        return changed

    def _hear(self, observed: Observed, now_ms: int) -> bool:
        before = self._of_runtime.get(observed.runtime)
        for each in before.releases if before else ():
            self._seen.pop((each.server, each.release), None)
        if before is None:
            # What the tables have of before a restart is this runtime's to say anew.
            self._seen = {key: running for key, running in self._seen.items() if running.step != _KEPT}
        for each in observed.releases:
            running = Running(each.replicas, now_ms, each.step, each.trouble, each.notes)
            self._seen[each.server, each.release] = running
        self._of_runtime[observed.runtime] = observed
        silent = now_ms - self._heard_at_ms.get(observed.runtime, 0) > FRESH_S * 1000
        self._heard_at_ms[observed.runtime] = now_ms
        changed = before is None or silent or _shape(before) != _shape(observed)
        self.news += changed
        return changed

    def of(self, server: str, release: str) -> Running:
        """What runs of a release."""
        return self._seen.get((server, release), NOTHING)

    def states(self) -> Counter[str]:
        """Replicas of all servers by state."""
        return Counter(each.state for running in self._seen.values() for each in running.replicas)

    def notes(self) -> dict[str, list[str]]:
        """What runtimes note of what runs, for operators, by server."""
        found: dict[str, list[str]] = {}
        for (server, _), running in sorted(self._seen.items()):
            told = found.setdefault(server, []) if running.notes else []
            told += [note for note in running.notes if note not in told]
        return found


def _shape(observed: Observed) -> list[tuple[object, ...]]:
    """What of a runtime's word is news: all but figures that move by themselves."""
    return [
        (
            each.server,
            each.release,
            each.step,
            each.trouble,
            each.notes,
            [(r.id, r.address, r.state, r.restarts, r.last_failure) for r in each.replicas],
        )
        for each in observed.releases
    ]
