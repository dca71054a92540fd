"""What is counted as records come in: calls by status, what they saved, and by how many different people.

It happens in the transaction that adds the records, from those that are new, so everything counts once however often
and in whatever order it is delivered. A call counts on the day it began. What could be anybody's text is not counted
under its own name: a tool counts under its name where the release that ran declares it, else under none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.ledger.model import (
    ALL,
    BEGUN,
    DAY_MS,
    DENIED,
    REFUSED_AT_EDGE,
    Figures,
    calls,
    outcomes,
    saved_ms,
    unpriced,
    usage_callers,
    usage_days,
    usage_totals,
)
from pegboard_hub.registry.tables import releases, tools
from pegboard_hub.storage.database import add_up, insert_and_tell_new, insert_new

Rows = Mapping[str, Mapping[str, Any]]
"""Rows of a table, by the call's id; all of one server and one kind."""

CHUNK = 500
"""Ids that are looked up at a time."""

MOST_PRICES = 20_000
"""Releases whose declared savings are kept in memory."""


class _Counted(NamedTuple):
    """So many calls of one kind, and what they saved. Less than none takes away what was counted before."""

    server: str
    day_ms: int
    tool: str
    status: str
    calls: int = 1
    saved_ms: int = 0


class Prices:
    """What the tools of releases save, in milliseconds. A release is pinned, so what was read once stays true."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, int]] = {}

    async def of(self, connection: AsyncConnection, server: str, release: str) -> dict[str, int] | None:
        """The release's tools; None where the registry does not know the release yet."""
        key = (server, release)
        if key not in self._known:
            found = await _read_prices(connection, server, release)
            if found is None:
                return None
            if len(self._known) >= MOST_PRICES:
                self._known.clear()
            self._known[key] = found
        return self._known[key]


async def _read_prices(connection: AsyncConnection, server: str, release: str) -> dict[str, int] | None:
    here = select(releases.c.digest).where(releases.c.server == server, releases.c.digest == release)
    if await connection.scalar(here) is None:
        return None
    declared = select(tools.c.name, tools.c.minutes_saved)
    rows = await connection.execute(declared.where(tools.c.server == server, tools.c.release == release))
    return {name: saved_ms(minutes) for name, minutes in rows}


async def count_records(
    connection: AsyncConnection, prices: Prices, server: str, intents: Rows, ended: Rows, denials: Rows
) -> None:
    """Count what one server delivered anew, and note on its calls how they ended.

    Args:
        connection: inside the transaction that has added the rows.
        prices: of releases.
        server: whose they are.
        intents: rows of `calls` that are new.
        ended: rows of `outcomes` that are new.
        denials: rows of `calls` that are new.
    """
    pairs = await _completed(connection, server, intents, ended)
    await _note_statuses(connection, server, intents, pairs)
    done = [(call, status) for call, status in pairs.values()]
    events = [*((row, BEGUN) for row in intents.values()), *((row, DENIED) for row in denials.values()), *done]
    declared = {r: await prices.of(connection, server, r) for r in {row["release"] for row, _ in events}}
    counted = [
        _counted(server, _day(row["at_ms"]), row["tool"], status, declared[row["release"]] or {})
        for row, status in events
    ]
    callers = {(server, row["sub_type"], row["sub"]) for row, status in done if status == "ok"}
    await _add(connection, counted, callers)
    await insert_new(
        connection,
        unpriced,
        [{"server": server, "release": release} for release, known in declared.items() if known is None],
    )


async def count_edge_refusals(
    connection: AsyncConnection, rows: Iterable[Mapping[str, Any]], registered: Collection[str]
) -> None:
    """Count refusals in the edge's access log that are new, each under a server of the registry or under none."""
    counted = [
        _Counted(row["server"] if row["server"] in registered else "", _day(row["at_ms"]), "", REFUSED_AT_EDGE)
        for row in rows
    ]
    await _add(connection, counted, ())


async def any_unpriced(connection: AsyncConnection) -> bool:
    """Whether some release delivered before the registry knew it."""
    return await connection.scalar(select(unpriced.c.server).limit(1)) is not None


async def count_again_what_was_unpriced(connection: AsyncConnection, prices: Prices) -> list[str]:
    """Count servers again whose release the registry knows by now; gives their names.

    Everything of theirs is counted anew: what a call was worth could not be told when it came.
    """
    known = (releases.c.server == unpriced.c.server) & (releases.c.digest == unpriced.c.release)
    due = (await connection.execute(select(unpriced.c.server, unpriced.c.release).join(releases, known))).all()
    servers = sorted({server for server, _ in due})
    for server in servers:
        await _count_again(connection, prices, server)
    for server, release in due:
        same = (unpriced.c.server == server) & (unpriced.c.release == release)
        await connection.execute(delete(unpriced).where(same))
    return servers


async def figures(connection: AsyncConnection) -> tuple[Figures, dict[str, Figures]]:
    """What was done in all, and with each server. Only allowed calls that ended well count."""
    rows = await connection.execute(select(usage_totals).where(usage_totals.c.status == "ok"))
    each = {row.server: Figures(row.calls, row.callers, row.saved_ms / 60_000) for row in rows}
    return each.pop(ALL, Figures()), each


async def figures_of(connection: AsyncConnection, servers: Collection[str]) -> dict[str, Figures]:
    """What was done with some servers; those that nothing was done with are left out."""
    chosen = (usage_totals.c.status == "ok", usage_totals.c.server.in_(sorted(servers)))
    rows = await connection.execute(select(usage_totals).where(*chosen))
    return {row.server: Figures(row.calls, row.callers, row.saved_ms / 60_000) for row in rows}


async def calls_by_day(connection: AsyncConnection, server: str, since_ms: int) -> dict[int, int]:
    """Calls of a server that ended well, by the beginning of their UTC day in milliseconds since the epoch."""
    chosen = (usage_days.c.server == server, usage_days.c.status == "ok", usage_days.c.day_ms >= since_ms)
    query = select(usage_days.c.day_ms, func.sum(usage_days.c.calls)).where(*chosen).group_by(usage_days.c.day_ms)
    return {day: int(count) for day, count in await connection.execute(query)}


async def tool_figures(connection: AsyncConnection, server: str, since_ms: int) -> dict[str, Figures]:
    """What was done with a server's tools since a day; nobody counts their callers."""
    chosen = (usage_days.c.server == server, usage_days.c.status == "ok", usage_days.c.day_ms >= since_ms)
    sums = (func.sum(usage_days.c.calls), func.sum(usage_days.c.saved_ms))
    query = select(usage_days.c.tool, *sums).where(*chosen).group_by(usage_days.c.tool)
    return {tool: Figures(int(n), 0, saved / 60_000) for tool, n, saved in await connection.execute(query) if tool}


async def totals(connection: AsyncConnection) -> list[tuple[str, str, int]]:
    """Calls of each server by status, since the ledger began."""
    rows = await connection.execute(
        select(usage_totals.c.server, usage_totals.c.status, usage_totals.c.calls).where(usage_totals.c.server != ALL)
    )
    return [tuple(row) for row in rows]


async def _completed(
    connection: AsyncConnection, server: str, intents: Rows, ended: Rows
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Calls that are complete since this delivery, by id: the call, and how it ended."""
    pairs: dict[str, tuple[Mapping[str, Any], str]] = {
        id_: (intents[id_], ended[id_]["status"]) for id_ in intents.keys() & ended.keys()
    }
    for chunk in _chunks(ended.keys() - intents.keys()):
        begun = select(calls).where(calls.c.server == server, calls.c.kind == "intent", calls.c.id.in_(chunk))
        for row in (await connection.execute(begun)).mappings():
            pairs[row["id"]] = (dict(row), ended[row["id"]]["status"])
    for chunk in _chunks(intents.keys() - ended.keys()):
        known = select(outcomes.c.id, outcomes.c.status).where(outcomes.c.server == server, outcomes.c.id.in_(chunk))
        for id_, status in await connection.execute(known):
            pairs[id_] = (intents[id_], status)
    return pairs


async def _note_statuses(
    connection: AsyncConnection, server: str, intents: Rows, pairs: Mapping[str, tuple[Mapping[str, Any], str]]
) -> None:
    """Write on calls how they ended, where they were not added with it."""
    late = [
        {"key": id_, "ended": status}
        for id_, (_, status) in pairs.items()
        if id_ not in intents or intents[id_]["status"] != status
    ]
    if late:
        of_call = (calls.c.server == server) & (calls.c.kind == "intent") & (calls.c.id == bindparam("key"))
        await connection.execute(update(calls).where(of_call).values(status=bindparam("ended")), late)


async def _add(
    connection: AsyncConnection, counted: Iterable[_Counted], callers: Collection[tuple[str, str, str]]
) -> None:
    sums: dict[tuple[str, int, str, str], _Counted] = {}
    for each in counted:
        before = sums.get(each[:4])
        sums[each[:4]] = _sum(before, each) if before else each
    rows = [each._asdict() for each in sums.values()]
    await add_up(connection, usage_days, rows)
    await add_up(connection, usage_totals, _totals(rows, await _new_callers(connection, callers)))


def _totals(days: Iterable[Mapping[str, Any]], callers: Mapping[str, int]) -> list[dict[str, Any]]:
    added: dict[tuple[str, str], dict[str, Any]] = {}
    for day in days:
        for server in (day["server"], ALL):
            blank = {"server": server, "status": day["status"], "calls": 0, "callers": 0, "saved_ms": 0}
            row = added.setdefault((server, day["status"]), blank)
            row["calls"] += day["calls"]
            row["saved_ms"] += day["saved_ms"]
    for server, count in callers.items():
        added[server, "ok"]["callers"] += count
    return list(added.values())


async def _new_callers(connection: AsyncConnection, callers: Collection[tuple[str, str, str]]) -> Counter[str]:
    rows = [
        {"server": server, "sub_type": sub_type, "sub": sub}
        for named, sub_type, sub in callers
        for server in (named, ALL)
    ]
    new = await insert_and_tell_new(connection, usage_callers, rows)
    return Counter(server for server, _, _ in new)


async def _count_again(connection: AsyncConnection, prices: Prices, server: str) -> None:
    """Replace what was counted of one server by a count of its rows. Who called is known anyway."""
    own = (usage_days.c.server == server) & (usage_days.c.status != REFUSED_AT_EDGE)
    before = (await connection.execute(select(usage_days).where(own))).mappings().all()
    taken = [_Counted(**{**row, "calls": -row["calls"], "saved_ms": -row["saved_ms"]}) for row in before]
    await _add(connection, [*taken, *await _counted_from_rows(connection, prices, server)], ())
    await connection.execute(delete(usage_days).where(own, usage_days.c.calls == 0))


async def _counted_from_rows(connection: AsyncConnection, prices: Prices, server: str) -> list[_Counted]:
    day = calls.c.at_ms - calls.c.at_ms % DAY_MS
    key = (calls.c.release, calls.c.tool, calls.c.kind, calls.c.status, day)
    rows = await connection.execute(
        select(*key, func.count()).where(calls.c.server == server, calls.c.kind != "edge").group_by(*key)
    )
    counted = []
    for release, tool, kind, status, day_ms, count in rows:
        declared = await prices.of(connection, server, release) or {}
        for each in (DENIED,) if kind == "denial" else filter(None, (BEGUN, status)):
            counted.append(_counted(server, day_ms, tool, each, declared, count))
    return counted


def _counted(
    server: str, day_ms: int, tool: str, status: str, declared: Mapping[str, int], count: int = 1
) -> _Counted:
    known = tool if tool in declared else ""
    saved = declared[tool] * count if known and status == "ok" else 0
    return _Counted(server, day_ms, known, status, count, saved)


def _sum(one: _Counted, other: _Counted) -> _Counted:
    return one._replace(calls=one.calls + other.calls, saved_ms=one.saved_ms + other.saved_ms)


def _day(at_ms: int) -> int:
    return at_ms - at_ms % DAY_MS


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
