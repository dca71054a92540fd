"""The joined edges: added and removed at the machine, told apart by their credentials, and listened to.

What an edge may do here is little, whoever holds its credential: take its own bundle, say which one it uses, say how
it is, and tell of its refusals under its own name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from pegboard_hub.common.home import Home
from pegboard_hub.common.joining import EdgeWord, digest_of, is_edge_name, new_credential
from pegboard_hub.edges import store
from pegboard_hub.edges.errors import EdgeRefused, EdgeRemoved, EdgeUnknown
from pegboard_hub.edges.model import JoinedEdge, Standing
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

AWAY_S = 30.0
"""Seconds without a word after which an edge is away, so that a rotation of keys waits for it no longer. An edge asks
for news all the time, and says every few seconds how it is."""

KEEP_S = 10.0
"""How often it is kept that an edge was heard of, in seconds; what it says anew is kept at once."""

FOLLOW_S = 0.5
"""How often a hub looks for what another has kept, in seconds."""

MOST_EDGES = 32
"""Each has a bundle of its own, which is written whenever anything changes."""

LONGEST_WHY = 300


class Edges:
    """The joined edges of an instance.

    Args:
        database: has their table.
        home: where their bundles are.
        clock: seconds since the epoch.
        leads: whether this hub leads: they come to that one alone.
    """

    def __init__(
        self,
        database: Database,
        home: Home,
        clock: Callable[[], float] = time.time,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._home = home
        self._clock = clock
        self._leads = leads
        self._listeners: list[Callable[[], None]] = []
        self._every: dict[str, JoinedEdge] = {}
        self._kept: dict[str, JoinedEdge] = {}
        self._since = clock()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` told whenever an edge was added or removed."""
        self._listeners.append(listener)

    async def reload(self) -> None:
        """Take over what the table says, and tell the listeners of a change."""
        async with self._database.read() as db:
            found = {edge.digest: edge for edge in await store.every(db)}
        names = self.names
        self._kept = dict(found)
        # Of what is heard here the table knows only now and then.
        self._every = {digest: self._newer(edge) for digest, edge in found.items()}
        if self.names != names:
            for listener in self._listeners:
                listener()

    @property
    def names(self) -> tuple[str, ...]:
        """What the edges are called that there are."""
        return tuple(edge.name for edge in self._every.values() if edge.removed_at_ms is None)

    @property
    def listed(self) -> tuple[JoinedEdge, ...]:
        """Every edge that ever was: those that are there by name, then those that were removed, the newest first."""
        there = sorted((e for e in self._every.values() if e.removed_at_ms is None), key=lambda edge: edge.name)
        gone = [edge for edge in reversed(self._every.values()) if edge.removed_at_ms is not None]
        return (*there, *gone)

    def standing(self, edge: JoinedEdge) -> Standing:
        """How an edge stands now."""
        if edge.removed_at_ms is not None:
            return "removed"
        now = self._clock()
        if edge.heard_at_ms is not None and now - edge.heard_at_ms / 1000 <= AWAY_S:
            return "live" if edge.word is None or edge.word.state == "live" else "unready"
        if edge.heard_at_ms is None:
            return "never"
        return "awaited" if now - self._since <= AWAY_S else "away"

    def consumers(self) -> dict[str, str]:
        """How each edge is, by what it is called as a consumer of bundles, in the words of a rotation of keys.

        A rotation waits for all that are not down. One that is away reads the newest bundle when it comes back.
        """
        states = {"live": "live", "unready": "starting", "awaited": "unknown"}
        there = (edge for edge in self._every.values() if edge.removed_at_ms is None)
        return {edge.consumer: states.get(self.standing(edge), "down") for edge in there}

    async def add(self, name: str, by: str, spiffe_id: str = "") -> str:
        """Add an edge; gives its credential, which nobody can read again.

        Args:
            name: what it is called.
            by: who adds it.
            spiffe_id: of one on another machine, who it is; empty for one on this.

        Raises:
            EdgeRefused: the name cannot be one, or is taken; or there are too many.
            StorageUnavailable: it could not be kept.
        """
        if not is_edge_name(name):
            words = f"{name[:40]!r} cannot be an edge's name."
            mend = "Use a to z, 0 to 9 and -, beginning with a letter, 31 at most; `edge` is the instance's own."
            raise EdgeRefused("invalid", words, mend)
        credential = new_credential()
        async with self._database.write() as db:
            there = [edge.name for edge in await store.every(db) if edge.removed_at_ms is None]
            if name in there:
                mend = "Remove it first (`pegboard edge remove`), which ends its credential; or use another name."
                raise EdgeRefused("there", f"There is an edge {name} already.", mend)
            if len(there) >= MOST_EDGES:
                raise EdgeRefused("there", f"There are {MOST_EDGES} edges already.", "Remove one first.")
            await store.add(db, name, digest_of(credential), by, spiffe_id, self._now_ms())
        log.info("edge added", extra={"edge": name, "by": by})
        await self.reload()
        return credential

    async def remove(self, name: str, by: str, why: str) -> None:
        """Remove an edge: its credential opens nothing more, and it is told so when it comes.

        Raises:
            EdgeRefused: there is none of that name, or no reason is given.
            StorageUnavailable: it could not be kept.
        """
        why = " ".join(why.split())
        if not 1 <= len(why) <= LONGEST_WHY:
            raise EdgeRefused("invalid", f"why: say it in 1 to {LONGEST_WHY} characters.", "It stays in the history.")
        async with self._database.write() as db:
            named = [edge for edge in await store.every(db) if edge.name == name]
            edge = next((edge for edge in named if edge.removed_at_ms is None), None)
            if edge is None:
                words = f"The edge {name} was removed already." if named else f"There is no edge {name[:40]!r}."
                raise EdgeRefused("unknown", words, "`pegboard edge list` shows those that there are.")
            await store.remove(db, edge.seq, by, why, self._now_ms())
        log.info("edge removed", extra={"edge": name, "by": by, "why": why})
        await self.reload()
        self._home.joined_edge_bundle(name).unlink(missing_ok=True)

    def of(self, credential: str) -> JoinedEdge:
        """The edge of a credential. It is found by its digest, so a look-up tells nothing by its duration.

        Raises:
            EdgeUnknown: no edge ever had it.
            EdgeRemoved: its edge was removed.
        """
        edge = self._every.get(digest_of(credential))
        if edge is None:
            raise EdgeUnknown("this edge's credential is not known")
        if edge.removed_at_ms is not None:
            raise EdgeRemoved(edge.digest, f"the edge {edge.name} was removed: {edge.removed_why}")
        return edge

    def heard(self, edge: JoinedEdge, word: EdgeWord | None = None) -> None:
        """Note that an edge was heard of, and what it said of itself."""
        known = self._every.get(edge.digest, edge)
        self._every[edge.digest] = replace(known, heard_at_ms=self._now_ms(), word=word or known.word)

    async def keep(self) -> None:
        """Keep what edges say, and take over what another hub has kept, until cancelled."""
        while True:
            try:
                await self.keep_once()
            except StorageUnavailable:
                pass  # it is in memory, and the disk's trouble is told elsewhere
            except Exception:
                log.exception("what edges say could not be kept")
            await asyncio.sleep(FOLLOW_S)

    async def keep_once(self) -> None:
        """Keep what is due.

        Raises:
            StorageUnavailable: the database takes no writes.
        """
        if not self._leads():
            self._since = self._clock()  # who comes to lead gives each of them time to come
            await self.reload()
            return
        due = [edge for edge in self._every.values() if self._is_due(edge)]
        if due:
            async with self._database.write() as db:
                for edge in due:
                    await store.heard(db, edge)
            self._kept |= {edge.digest: edge for edge in due}

    def _is_due(self, edge: JoinedEdge) -> bool:
        kept = self._kept.get(edge.digest)
        if kept is None or edge.heard_at_ms is None or edge.heard_at_ms == kept.heard_at_ms:
            return False
        return edge.word != kept.word or edge.heard_at_ms - (kept.heard_at_ms or 0) >= KEEP_S * 1000

    def _newer(self, edge: JoinedEdge) -> JoinedEdge:
        known = self._every.get(edge.digest)
        if known is None or (known.heard_at_ms or 0) < (edge.heard_at_ms or 0):
            return edge
        return replace(edge, heard_at_ms=known.heard_at_ms, word=known.word)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
