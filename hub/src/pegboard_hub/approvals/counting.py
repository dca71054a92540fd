"""How many requests there are of which kind, and what became of them, as the tables say."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import State
from pegboard_hub.approvals.model import approval_events, approval_requests

_t = approval_requests.c


async def count_by_state(db: AsyncConnection, states: Collection[State]) -> dict[State, int]:
    """How many requests are in each of these states."""
    query = select(_t.state, func.count()).where(_t.state.in_(states)).group_by(_t.state)
    return {State(row[0]): row[1] for row in await db.execute(query)}


async def oldest_waiting(db: AsyncConnection, now_ms: int) -> int | None:
    """Since when the one has waited that waits longest, in milliseconds since the epoch; None: nothing waits."""
    query = select(func.min(_t.requested_at_ms)).where(_t.state == State.REQUESTED, _t.expires_at_ms > now_ms)
    found = await db.scalar(query)
    return int(found) if found is not None else None


async def newest_event_at(db: AsyncConnection) -> int:
    """When the newest entry of the history was written, in milliseconds since the epoch; 0 while there is none."""
    newest_first = select(approval_events.c.at_ms).order_by(approval_events.c.seq.desc())
    return int(await db.scalar(newest_first.limit(1)) or 0)


async def count_moved(db: AsyncConnection, after: int, until: int) -> dict[State, int]:
    """How many requests came into each state with the entries after the one, up to the other."""
    event = approval_events.c
    counted = (event.seq > after, event.seq <= until, event.before != event.after)
    query = select(event.after, func.count()).where(*counted).group_by(event.after)
    return {State(row[0]): row[1] for row in await db.execute(query)}


async def count_unknown(db: AsyncConnection, since_ms: int) -> int:
    """How many requests have an unknown end that came since that time."""
    query = select(func.count()).where(_t.state == State.UNKNOWN, _t.ended_at_ms >= since_ms)
    return int(await db.scalar(query) or 0)
