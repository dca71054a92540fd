"""How the pipeline does as a whole, for metrics and `pegboard doctor`: what is under way, and what stands still.

Everything is read from the tables, so that any hub can say it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import UNDER_WAY, State
from pegboard_hub.publishing.model import deployments, replicas, submissions
from pegboard_hub.publishing.submissions import queue
from pegboard_hub.storage.database import Database
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import BUILDS_OLDEST, RUNTIME_HEARD, SUBMISSIONS

log = logging.getLogger(__name__)

STILL_MS: Final = 5 * 60_000
"""Milliseconds after which what the hub does by itself within seconds stands still."""

GONE_MS: Final = 24 * 3600 * 1000
"""Milliseconds after which a runtime that says nothing counts as one that was removed."""

LOOK_S: Final = 15.0
"""Seconds between two looks, for metrics."""

_STATES: Final = (*(state for state in State if state in UNDER_WAY), State.IN_REVIEW)


class Still(NamedTuple):
    """A submission that should have gone on by itself, and did not."""

    id: str
    server: str
    state: State
    since_ms: int


@dataclass(frozen=True)
class Overview:
    """How the pipeline does. Times are milliseconds since the epoch.

    Attributes:
        counts: submissions by state, of those that are under way or wait for people.
        waiting_since_ms: since when the one waits for a builder that waits longest; None: none waits.
        still: the oldest that stand still.
        heard_ms: when each runtime that has replicas last said how they do.
    """

    counts: Mapping[State, int]
    waiting_since_ms: int | None
    still: tuple[Still, ...]
    heard_ms: Mapping[str, int]


async def overview(connection: AsyncConnection, now_ms: int, most: int = 100) -> Overview:
    """How the pipeline does now; `most` of what stands still is named."""
    counted = select(submissions.c.state, func.count()).where(submissions.c.state.in_(_STATES))
    counts = {row[0]: row[1] for row in await connection.execute(counted.group_by(submissions.c.state))}
    heard = (
        select(replicas.c.runtime, func.max(replicas.c.seen_at_ms))
        .where(replicas.c.seen_at_ms > now_ms - GONE_MS)
        .group_by(replicas.c.runtime)
    )
    return Overview(
        counts={state: counts.get(state, 0) for state in _STATES},
        waiting_since_ms=(await queue(connection, now_ms)).since_ms,
        still=await _still(connection, now_ms, most),
        heard_ms={row[0]: row[1] for row in await connection.execute(heard)},
    )


async def _still(connection: AsyncConnection, now_ms: int, most: int) -> tuple[Still, ...]:
    """What is checked within seconds, and what is approved while nobody holds its server's deployment."""
    held = deployments.c.server == submissions.c.server
    free = or_(deployments.c.paused.is_(None), deployments.c.paused.is_(False))
    query = (
        select(submissions.c.id, submissions.c.server, submissions.c.state, submissions.c.updated_at_ms)
        .outerjoin_from(submissions, deployments, held)
        .where(
            submissions.c.updated_at_ms < now_ms - STILL_MS,
            or_(
                submissions.c.state.in_((State.BUILT, State.CHECKED)),
                and_(submissions.c.state == State.APPROVED, free),
            ),
        )
        .order_by(submissions.c.updated_at_ms)
        .limit(most)
    )
    return tuple(Still(*row) for row in await connection.execute(query))


class Measures:
    """Brings the metrics of the pipeline up to date.

    Args:
        database: has the tables.
        meter: shows the figures.
        leads: whether this hub is the one that tells them.
    """

    def __init__(self, database: Database, meter: HubMeter, leads: Callable[[], bool]) -> None:
        self._database = database
        self._meter = meter
        self._leads = leads

    async def look(self, now_ms: int) -> None:
        """Show how it is now; a hub that does not lead shows nothing."""
        if not self._leads():
            for metric in (SUBMISSIONS, RUNTIME_HEARD):
                self._meter.forget(metric)
            self._meter.set(BUILDS_OLDEST, 0)
            return
        async with self._database.read() as connection:
            found = await overview(connection, now_ms)
        for state, count in found.counts.items():
            self._meter.set(SUBMISSIONS, count, state.value)
        waited = now_ms - found.waiting_since_ms if found.waiting_since_ms is not None else 0
        self._meter.set(BUILDS_OLDEST, max(waited, 0) / 1000)
        self._meter.forget(RUNTIME_HEARD)
        for runtime, heard_ms in found.heard_ms.items():
            self._meter.set(RUNTIME_HEARD, heard_ms / 1000, runtime)

    async def keep(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look(int(time.time() * 1000))
            except Exception:
                log.exception("the pipeline could not be measured, and is again")
            await asyncio.sleep(LOOK_S)
