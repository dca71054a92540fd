"""What the hub knows of servers' health: the prober's reports in memory, and in the tables behind it.

Whoever asks is answered from memory. The tables carry it over a restart, and to other replicas of the hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable

from pegboard_hub.health import store
from pegboard_hub.health.probe import KINDS
from pegboard_hub.health.report import Answer, Report, Target, Transition
from pegboard_hub.health.store import Entry, Heard
from pegboard_hub.registry.status import Probed, ProberWord
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry import table
from pegboard_hub.telemetry.meter import HubMeter

log = logging.getLogger(__name__)

SILENT_MS = 20_000
"""Milliseconds after its last report from which the prober counts as silent; it reports every five seconds."""

CHECKED_EVERY_MS = 60_000
"""How often the tables learn when servers were last looked at. They have every transition at once."""

FOLLOW_S = 2.0
"""How often a replica looks whether the prober told another one something, in seconds."""

KEPT_MS = 30 * 86_400_000
"""For how long transitions are kept."""

MOST_ENTRIES = 200
"""Transitions that are kept of one server."""

AHEAD_MS = 60_000
"""How far a transition's time may be ahead of the hub's clock."""


class HealthBoard:
    """Takes the prober's reports, and tells what it said.

    Args:
        database: has the tables.
        servers: the names of every server to look at, now.
        registered: the names of every server there is, now: what is known of others is dropped.
        name: of this instance's prober.
        meter: counts.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        servers: Callable[[], Iterable[str]],
        registered: Callable[[], Collection[str]],
        name: str,
        meter: HubMeter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._servers = servers
        self._registered = registered
        self._name = name
        self._meter = meter
        self._clock = clock
        self._began_ms = self._now_ms()
        self._heard = Heard()
        self._words: dict[str, Probed] = {}
        self._checked_at_ms = 0
        self._oldest_ms = 0
        self._watch()

    async def start(self) -> None:
        """Begin with what the tables say from last time."""
        async with self._database.read() as connection:
            self._heard = await store.heard(connection)
            self._words = await store.load(connection)

    def word(self) -> ProberWord:
        """What the prober says now."""
        now = self._now_ms()
        if now - self._heard.at_ms <= SILENT_MS:
            return ProberWord("reporting", self._heard.at_ms, self._words)
        if now - self._began_ms <= SILENT_MS:
            return ProberWord("awaited", self._began_ms)
        return ProberWord("silent", self._heard.at_ms or self._began_ms)

    async def take(self, report: Report) -> Answer:
        """Take a report, and say whom to look at.

        What the disk does not take counts all the same, and the prober tells it again.

        Raises:
            StorageUnavailable: the disk takes no writes.
        """
        now, known = self._now_ms(), tuple(self._servers())
        goes_on = now - self._heard.at_ms <= SILENT_MS
        answer = self._answer(report.targets, known, goes_on)
        moved = _credible(report.transitions, frozenset(known), now + AHEAD_MS)
        self._remember(report, moved, now)
        self._count(report)
        checked = now - self._checked_at_ms >= CHECKED_EVERY_MS
        self._heard = Heard(now, self._heard.changes + (1 if moved or checked else 0))
        changed = dict(self._words) if checked else {each.server: self._words[each.server] for each in moved}
        async with self._database.write() as connection:
            await store.add(connection, moved)
            await store.save(connection, changed)
            await store.save_heard(connection, self._name, self._heard)
        if checked:
            self._checked_at_ms = now
        return answer

    async def history(self, server: str, before_ms: int | None, limit: int) -> list[Entry]:
        """A server's transitions, newest first, from before that time."""
        async with self._database.read() as connection:
            return await store.history(connection, server, before_ms, limit)

    async def tidy(self) -> None:
        """Drop what is too old, too much, or of servers that are gone."""
        known = self._registered()
        gone = [server for server in self._words if server not in known]
        async with self._database.write() as connection:
            await store.forget(connection, self._now_ms() - KEPT_MS, MOST_ENTRIES, gone)
        self._words = {server: word for server, word in self._words.items() if server in known}

    async def follow(self) -> None:
        """Learn what the prober told another replica, until cancelled. The embedded database has no other."""
        while self._database.file is None:
            try:
                await self._catch_up()
            except (StorageUnavailable, OSError):
                log.warning("what the prober told other replicas could not be read, and is tried again")
            except Exception:
                log.exception("what the prober told other replicas could not be read, and is tried again")
            await asyncio.sleep(FOLLOW_S)

    async def _catch_up(self) -> None:
        async with self._database.read() as connection:
            heard = await store.heard(connection)
            if heard.at_ms <= self._heard.at_ms:
                return
            if heard.changes != self._heard.changes:
                self._words = await store.load(connection)
        # The tables learn of looks once a minute only; that it reports says that it looks.
        self._words = {
            server: word._replace(checked_at_ms=max(word.checked_at_ms, heard.at_ms - CHECKED_EVERY_MS))
            for server, word in self._words.items()
        }
        self._heard = heard

    def _answer(self, has: str, known: tuple[str, ...], goes_on: bool) -> Answer:
        digest = hashlib.sha256("\n".join(sorted(known)).encode()).hexdigest()
        if has == digest:
            return Answer(targets=digest)
        return Answer(targets=digest, servers=tuple(self._target(server, goes_on) for server in known))

    def _target(self, server: str, goes_on: bool) -> Target:
        word = self._words.get(server)
        if word is None or not goes_on:
            return Target(server=server)
        return Target(server=server, state=word.state, since_ms=word.since_ms, why=word.why)

    def _remember(self, report: Report, moved: list[Transition], now: int) -> None:
        words = dict(self._words)
        for each in moved:
            words[each.server] = Probed(each.state, each.at_ms, each.why, each.at_ms)
        for server, at_ms in report.checked.items():
            if server in words:
                words[server] = words[server]._replace(checked_at_ms=min(at_ms, now))
        # Replaced as a whole: who is reading the last one goes on with it.
        self._words = words

    def _count(self, report: Report) -> None:
        for kind, count in report.looks.items():
            self._meter.count(table.HEALTH_LOOKS, kind, by=count)
        for seconds in report.seconds:
            self._meter.observe(table.HEALTH_LOOK_SECONDS, seconds)
        self._oldest_ms = report.oldest_ms

    def _watch(self) -> None:
        for kind in KINDS:
            self._meter.count(table.HEALTH_LOOKS, kind, by=0)
        self._meter.watch(table.HEALTH_HEARD, lambda: self._heard.at_ms / 1000)
        self._meter.watch(table.HEALTH_OLDEST, lambda: self._oldest_ms / 1000)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _credible(transitions: Iterable[Transition], known: frozenset[str], latest_ms: int) -> list[Transition]:
    """Those that tell of a server that is here, and of no time to come."""
    return [each for each in transitions if each.server in known and each.at_ms <= latest_ms]
