"""Lists of requests, as somebody may look at them: what waits for their yes, and everything that they may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, union, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import State
from pegboard_hub.approvals.model import Page, Place, Which, approval_requests
from pegboard_hub.approvals.store import by_ids

_t = approval_requests.c

MOST_PARTS: Final = 40
"""Keys of somebody's requests that are looked for one by one; more than groups and servers that most people have."""


async def inbox(
    db: AsyncConnection, sub: str, keys: Sequence[str], now_ms: int, limit: int, after: Place | None
) -> Page:
    """What waits for somebody's yes, the first to expire first.

    Each key is looked for by itself, in the order of the index, so that neither an inbox of very many nor one of few
    among very many has all of them looked through. Of a team that owns hundreds of servers the rest is sorted.
    """
    parts = []
    for condition in (*(_t.approver == key for key in keys[:MOST_PARTS]), _among(keys[MOST_PARTS:])):
        if condition is None:
            continue
        part = select(_t.id, _t.expires_at_ms).where(_waits_for(sub, condition, now_ms))
        if after is not None:
            later = _t.expires_at_ms > after.at_ms
            part = part.where(or_(later, and_(_t.expires_at_ms == after.at_ms, _t.id > after.id)))
        parts.append(part.order_by(_t.expires_at_ms, _t.id).limit(limit + 1))
    every = union_all(*(select(part.subquery()) for part in parts)).subquery()
    return await _page(db, select(every).order_by(every.c.expires_at_ms, every.c.id).limit(limit + 1), limit)


async def count_waiting(db: AsyncConnection, sub: str, keys: Sequence[str], now_ms: int, most: int) -> int:
    """How many wait for somebody's yes; it stops counting at `most`."""
    some = select(_t.id).where(_waits_for(sub, _t.approver.in_(keys), now_ms)).limit(most).subquery()
    return int(await db.scalar(select(func.count()).select_from(some)) or 0)


async def listed(
    db: AsyncConnection, among: Sequence[ColumnElement[bool]], which: Which, limit: int, after: Place | None
) -> Page:
    """Requests that any of `among` lets be seen and that fit, newest first.

    Each is looked for by itself, in the order of an index of its own, so that whoever may see few of very many does
    not have all of them looked through.
    """
    parts = [_newest_first(condition, which, limit, after) for condition in among]
    if len(parts) == 1:
        return await _page(db, parts[0], limit)
    both = union(*(select(part.subquery()) for part in parts)).subquery()
    first = select(both).order_by(both.c.requested_at_ms.desc(), both.c.id.desc()).limit(limit + 1)
    return await _page(db, first, limit)


def of_person(sub: str) -> ColumnElement[bool]:
    """What somebody asked for."""
    return _t.person == sub


def of_approvers(keys: Sequence[str]) -> list[ColumnElement[bool]]:
    """What is for somebody to decide, in parts that have an order in an index each."""
    rest = _among(keys[MOST_PARTS:])
    return [*(_t.approver == key for key in keys[:MOST_PARTS]), *([] if rest is None else [rest])]


def all_of_them() -> ColumnElement[bool]:
    """Every request."""
    return literal(value=True)


async def _page(db: AsyncConnection, chosen: Select[Any], limit: int) -> Page:
    """The requests that were chosen, by id and time, one more than a page has. Rows are long: few are read."""
    places = [Place(row[1], row[0]) for row in await db.execute(chosen)]
    found = await by_ids(db, [place.id for place in places[:limit]])
    after = places[limit - 1] if len(places) > limit else None
    return Page([found[place.id] for place in places[:limit]], after)


def _newest_first(condition: ColumnElement[bool], which: Which, limit: int, after: Place | None) -> Select[Any]:
    query = select(_t.id, _t.requested_at_ms).where(condition)
    for column, value in ((_t.server, which.server), (_t.person, which.person), (_t.state, which.state)):
        if value is not None:
            query = query.where(column == value)
    if after is not None:
        earlier = _t.requested_at_ms < after.at_ms
        query = query.where(or_(earlier, and_(_t.requested_at_ms == after.at_ms, _t.id < after.id)))
    return query.order_by(_t.requested_at_ms.desc(), _t.id.desc()).limit(limit + 1)


def _waits_for(sub: str, approver: ColumnElement[bool], now_ms: int) -> ColumnElement[bool]:
    theirs = or_(_t.own, _t.person != sub)
    return and_(_t.state == State.REQUESTED, approver, _t.expires_at_ms > now_ms, theirs)


def _among(keys: Sequence[str]) -> ColumnElement[bool] | None:
    return _t.approver.in_(keys) if keys else None
