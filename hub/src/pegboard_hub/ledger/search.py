"""Finding calls: newest first, page by page, in a time that does not grow with the ledger.

A search follows one index that fits it best, and looks at the other conditions on the way. It looks at `WINDOW` calls
at most before it answers with what it found and with the place to go on from; so no question, however rare what it
asks for, can hold up the hub. A page goes on behind the last call of the one before, whatever arrived meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import Executable, case, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.ledger.model import calls
from pegboard_hub.ledger.questions import Condition, Found, Page, Place, Reader, Row, Search, Unfinished

WINDOW = 5_000
"""Calls that one question looks at, on each of its walks."""

MOST_BRANCHES = 8
"""Owned servers whose newest calls are looked up one by one; owners of more look through everything."""

_WITHOUT_OUTCOME = ("denied", "running", "unknown")

_ORDER = tuple(calls.c[name] for name in Place._fields)


@dataclass(frozen=True, slots=True)
class _Branch:
    """One walk through the ledger, from the newest call on or from behind a place.

    Attributes:
        along: what one index serves in the order of time.
        behind: what the pages before have passed.
        rest: what is looked at on the way.
    """

    along: tuple[Condition, ...]
    behind: tuple[Condition, ...]
    rest: tuple[Condition, ...]


async def find(
    connection: AsyncConnection,
    reader: Reader,
    search: Search,
    unfinished: Unfinished,
    after: Place | None,
    limit: int,
) -> Page:
    """The next calls that fit, at most `limit`, behind the place `after`."""
    conditions = await _conditions(connection, search, unfinished)
    walks = [await _walk(connection, branch, limit) for branch in _branches(reader, search, conditions, after)]
    # Where a walk ended early nothing is known beyond: what others found there waits for a later page.
    frontier = max((end for _, end in walks if end is not None), default=None)
    rows = sorted(chain.from_iterable(rows for rows, _ in walks), key=_place, reverse=True)
    sure = [row for row in rows if frontier is None or _place(row) >= frontier]
    page = sure[:limit]
    return Page(page, _place(page[-1]) if len(sure) > limit else frontier)


async def count(connection: AsyncConnection, reader: Reader, search: Search, unfinished: Unfinished) -> Found:
    """How many calls fit, of those that a question looks at."""
    conditions = await _conditions(connection, search, unfinished)
    sums, ends = [0, 0, 0], []
    for branch in _branches(reader, search, conditions, None):
        end = await _end(connection, branch)
        row = (await connection.execute(_count(branch, end))).one()
        sums = [total + (part or 0) for total, part in zip(sums, row, strict=True)]
        if end is not None:
            ends.append(end)
    return Found(sums[0], sums[1], sums[2], max(ends, default=None))


def _count(branch: _Branch, end: int | None) -> Executable:
    denied = calls.c.kind != "intent"
    return (
        select(
            func.count(),
            func.sum(case((denied, 1), else_=0)),
            func.sum(case((~denied & (calls.c.status == ""), 1), else_=0)),
        )
        .select_from(calls)
        .where(*branch.along, *_from(end), *branch.rest)
    )


async def _walk(connection: AsyncConnection, branch: _Branch, limit: int) -> tuple[list[Row], Place | None]:
    """The first rows of a branch, one more than asked; and the place where it ended although there may be more."""
    end = await _end(connection, branch)
    query = (
        select(calls)
        .where(*branch.along, *branch.behind, *_from(end), *branch.rest)
        .order_by(*(column.desc() for column in _ORDER))
        .limit(limit + 1)
    )
    rows = [dict(row) for row in (await connection.execute(query)).mappings()]
    if len(rows) > limit:
        return rows, _place(rows[-1])
    return rows, None if end is None else Place(end, "", "", "")


async def _end(connection: AsyncConnection, branch: _Branch) -> int | None:
    """The time of the last call that a question looks at on this walk; None where it comes to its end before.

    The index alone answers. Calls of that very moment are all looked at, so that no page splits them unseen.
    """
    at_ms = select(calls.c.at_ms).where(*branch.along, *branch.behind[:1])
    end: int | None = await connection.scalar(at_ms.order_by(calls.c.at_ms.desc()).limit(1).offset(WINDOW - 1))
    return end


def _from(end: int | None) -> tuple[Condition, ...]:
    return () if end is None else (calls.c.at_ms >= end,)


def _branches(
    reader: Reader, search: Search, conditions: Mapping[str, Condition], after: Place | None
) -> Iterator[_Branch]:
    """The walks that together pass every call that may fit, none of them twice."""
    behind = _behind(after)
    times = tuple(conditions[name] for name in _TIMES if name in conditions)
    rest = {name: condition for name, condition in conditions.items() if name not in _TIMES}
    named = next((name for name in _DRIVERS if name in rest), "")
    if reader.everything or named in _EXACT or search.server in reader.owned or len(reader.owned) > MOST_BRANCHES:
        along = (_DRIVERS[named](search),) if named else ()
        yield _Branch((*along, *times), behind, (reader.visible, *rest.values()))
        return
    yield _Branch((calls.c.sub == reader.sub, *times), behind, (reader.own, *rest.values()))
    for server in sorted(reader.owned):
        yield _Branch((calls.c.server == server, *times), behind, (~reader.own, *rest.values()))


_TIMES = ("since_ms", "until_ms")
_EXACT = ("id", "request_id", "trace_id")

_DRIVERS: dict[str, Callable[[Search], Condition]] = {
    "id": lambda search: calls.c.id == search.id,
    "request_id": lambda search: calls.c.request_id == search.request_id,
    "trace_id": lambda search: calls.c.trace_id == search.trace_id,
    "person": lambda search: calls.c.sub == search.person,
    # Running and unknown have no status of their own; they are told apart on the way.
    "status": lambda search: calls.c.status == ("" if search.status in _WITHOUT_OUTCOME else search.status),
    "code": lambda search: calls.c.code == search.code,
    "tool": lambda search: calls.c.tool == search.tool,
    "server": lambda search: calls.c.server == search.server,
}
"""What an index serves, the finest first: a column, followed by the time."""


async def _conditions(connection: AsyncConnection, search: Search, unfinished: Unfinished) -> dict[str, Condition]:
    """What a row must meet, by the field of the search that asks for it."""
    equal = {
        "id": calls.c.id,
        "request_id": calls.c.request_id,
        "trace_id": calls.c.trace_id,
        "person": calls.c.sub,
        "server": calls.c.server,
        "tool": calls.c.tool,
        "code": calls.c.code,
        "surface": calls.c.surface,
        "act": calls.c.act,
    }
    found = {name: column == value for name, column in equal.items() if (value := getattr(search, name)) is not None}
    if search.since_ms is not None:
        found["since_ms"] = calls.c.at_ms >= search.since_ms
    if search.until_ms is not None:
        found["until_ms"] = calls.c.at_ms < search.until_ms
    if search.decision is not None:
        found["decision"] = (calls.c.kind == "intent") if search.decision == "allowed" else (calls.c.kind != "intent")
    if search.layer is not None:
        found["layer"] = (calls.c.kind == "edge") if search.layer == "edge" else (calls.c.kind != "edge")
    if search.status is not None:
        found["status"] = await _status(connection, search.status, unfinished)
    return found


async def _status(connection: AsyncConnection, status: str, unfinished: Unfinished) -> Condition:
    if status == "denied":
        return calls.c.kind != "intent"
    if status not in _WITHOUT_OUTCOME:
        return (calls.c.kind == "intent") & (calls.c.status == status)
    without = (calls.c.kind == "intent") & (calls.c.status == "")
    young = select(calls.c.server).distinct().where(calls.c.status == "", calls.c.at_ms >= unfinished.young_ms)
    servers = [name for (name,) in await connection.execute(young) if name in unfinished.live_since_ms]
    running = or_(
        literal(False),
        *(
            (calls.c.server == name) & (calls.c.at_ms >= max(unfinished.young_ms, unfinished.live_since_ms[name]))
            for name in servers
        ),
    )
    return without & (running if status == "running" else ~running)


def _behind(after: Place | None) -> tuple[Condition, ...]:
    if after is None:
        return ()
    # The first condition says what follows from the second, in a form that every planner knows an index for.
    return calls.c.at_ms <= after.at_ms, tuple_(*_ORDER) < tuple_(*(literal(value) for value in after))


def _place(row: Mapping[str, Any]) -> Place:
    return Place(*(row[name] for name in Place._fields))
