"""Requests that time does something to: that expire, are to be announced, or are heard of no more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import OPEN, State
from pegboard_hub.approvals.clock import SKEW_MS
from pegboard_hub.approvals.model import Request, approval_requests
from pegboard_hub.approvals.store import request_of

_t = approval_requests.c


async def anything_due(db: AsyncConnection, now_ms: int, runs_for_ms: int) -> bool:
    """Whether time has done anything to any request that is to be written down."""
    questions = (
        and_(_t.state.in_(OPEN), _t.expires_at_ms <= now_ms),
        # Hardly any is, and all may be open: found by its time, and not by a state that an index has too.
        and_(_t.state.concat("").in_(OPEN), _t.requested_at_ms > now_ms + SKEW_MS),
        _expires_soon(now_ms),
        and_(_t.state == State.CLAIMED, _t.claimed_at_ms < now_ms - runs_for_ms),
        _claimed_in_the_future(now_ms),
    )
    return bool(await db.scalar(select(or_(*(select(_t.id).where(each).exists() for each in questions)))))


async def over(db: AsyncConnection, state: State, now_ms: int, limit: int) -> list[Request]:
    """Requests of a state whose time is over, or of which nobody can tell: they were made later than now."""
    found: dict[str, Request] = {}
    for late in (_t.expires_at_ms <= now_ms, _t.requested_at_ms > now_ms + SKEW_MS):
        query = select(approval_requests).where(_t.state == state, late).order_by(_t.expires_at_ms)
        found |= {request.id: request for request in await _some(db, query, limit)}
    return list(found.values())[:limit]


async def approved_by(db: AsyncConnection, people: Collection[str], limit: int) -> list[Request]:
    """Requests that one of these people approved and no call has claimed."""
    query = select(approval_requests).where(_t.state == State.APPROVED, _t.decided_by.in_(people))
    return await _some(db, query.order_by(_t.expires_at_ms), limit)


async def expiring(db: AsyncConnection, now_ms: int, limit: int) -> list[Request]:
    """Requests that wait, of whose time three quarters are gone, and that were not announced to expire."""
    query = select(approval_requests).where(_expires_soon(now_ms)).order_by(_t.remind_at_ms)
    return await _some(db, query, limit)


async def note_reminded(db: AsyncConnection, ids: Sequence[str], now_ms: int) -> None:
    """Remember that it was announced that these will expire."""
    await db.execute(update(approval_requests).where(_t.id.in_(ids)).values(reminded_at_ms=now_ms))


async def claimed_before(db: AsyncConnection, before_ms: int, limit: int) -> list[Request]:
    """What was claimed before that time and whose end nobody told."""
    query = select(approval_requests).where(_t.state == State.CLAIMED, _t.claimed_at_ms < before_ms)
    return await _some(db, query, limit)


async def date_claims_anew(db: AsyncConnection, now_ms: int) -> None:
    """Let what was claimed later than now have been claimed now: a clock was set back, and its time must end, too."""
    await db.execute(update(approval_requests).where(_claimed_in_the_future(now_ms)).values(claimed_at_ms=now_ms))


async def with_contents(db: AsyncConnection, since_ms: int, before_ms: int, limit: int) -> list[str]:
    """Requests made between these times that are over, and whose arguments and previews are still kept."""
    ended = _t.state.not_in([*OPEN, State.CLAIMED])
    made = (_t.requested_at_ms >= since_ms, _t.requested_at_ms < before_ms)
    return list(await db.scalars(select(_t.id).where(*made, ended, _t.arguments != "").limit(limit)))


async def forget_contents(db: AsyncConnection, ids: Sequence[str]) -> None:
    """Drop the arguments and previews of these."""
    await db.execute(update(approval_requests).where(_t.id.in_(ids)).values(arguments="", preview=""))


async def _some(db: AsyncConnection, query: Select[Any], limit: int) -> list[Request]:
    return [request_of(row) for row in (await db.execute(query.limit(limit))).mappings()]


def _claimed_in_the_future(now_ms: int) -> ColumnElement[bool]:
    return and_(_t.state == State.CLAIMED, _t.claimed_at_ms > now_ms + SKEW_MS)


def _expires_soon(now_ms: int) -> ColumnElement[bool]:
    return and_(_t.state == State.REQUESTED, _t.remind_at_ms <= now_ms, _t.reminded_at_ms.is_(None))
