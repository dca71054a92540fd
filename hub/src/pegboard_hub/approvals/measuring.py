"""What is counted of approvals, and how they stand, for metrics and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pegboard.core.approval import State
from pegboard_hub.approvals import counting, store
from pegboard_hub.approvals.clock import SKEW_MS
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import APPROVALS, APPROVALS_MOVED, APPROVALS_OLDEST

UNDER_WAY: Final = (State.REQUESTED, State.APPROVED, State.CLAIMED)

LATELY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """How approvals stand now. Times are milliseconds since the epoch.

    Attributes:
        counts: requests that wait, that are approved and not claimed, and that run.
        oldest_ms: since when the one has waited that waits longest; None: nothing waits.
        unknown: requests whose end became unknown within a day, and still is.
        ahead_ms: how far the newest entry of the history is ahead of the clock; 0 where it is not, or hardly.
    """

    counts: dict[State, int]
    oldest_ms: int | None
    unknown: int
    ahead_ms: int


async def standing(database: Database, now_ms: int) -> Standing:
    """How approvals stand."""
    async with database.read() as db:
        counts = await counting.count_by_state(db, UNDER_WAY)
        oldest = await counting.oldest_waiting(db, now_ms)
        unknown = await counting.count_unknown(db, now_ms - LATELY_MS)
        newest = await counting.newest_event_at(db)
    ahead = newest - now_ms
    return Standing(
        {state: counts.get(state, 0) for state in UNDER_WAY}, oldest, unknown, ahead if ahead > SKEW_MS else 0
    )


class Measures:
    """Brings the metrics up to date. The history is counted, so that steps of all hubs are in one hub's figures."""

    def __init__(self, database: Database, meter: HubMeter) -> None:
        self._database = database
        self._meter = meter
        self._seq: int | None = None
        for state in State:
            meter.count(APPROVALS_MOVED, state, by=0)

    async def look(self, now_ms: int) -> None:
        """Count what happened since the last look; the first finds where to begin."""
        found = await standing(self._database, now_ms)
        for state, count in found.counts.items():
            self._meter.set(APPROVALS, count, state)
        waited = now_ms - found.oldest_ms if found.oldest_ms is not None else 0
        self._meter.set(APPROVALS_OLDEST, max(waited, 0) / 1000)
        async with self._database.read() as db:
            newest = await store.newest_event(db)
            moved = await counting.count_moved(db, newest if self._seq is None else self._seq, newest)
        for state, count in moved.items():
            self._meter.count(APPROVALS_MOVED, state, by=count)
        self._seq = newest
