"""The ledger's tables: adding rows exactly once, and reading them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import FromClause, and_, delete, distinct, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.ledger.model import Figures, calls, counted, outcomes, refusal_counts, rejected_records
from pegboard_hub.ledger.reading import Unreadable
from pegboard_hub.registry.model import tools
from pegboard_hub.storage.database import insert_and_tell_new, insert_new

HOUR_MS = 3_600_000

REJECTED_KEPT = 1000
"""How many of one server's unreadable records are kept: the newest."""

Refused = tuple[str, str, int, str]
"""A refusal of nobody in particular: id, code, milliseconds since the epoch, server it was aimed at."""


async def add_calls(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add intents and refusals; those that are there already are left as they are."""
    await insert_new(connection, calls, rows)


async def add_outcomes(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add outcomes; those that are there already are left as they are."""
    await insert_new(connection, outcomes, rows)


async def count_refusals(
    connection: AsyncConnection, layer: str, deliverer: str, refused: Iterable[Refused], now_ms: int
) -> None:
    """Count refusals without a verified caller, each once by its id."""
    by_id = {refusal[0]: refusal for refusal in refused}
    rows = [{"layer": layer, "server": deliverer, "id": id_, "seen_at_ms": now_ms} for id_ in by_id]
    new = await insert_and_tell_new(connection, counted, rows)
    counts: Counter[tuple[str, str, int]] = Counter()
    for _, _, id_ in new:
        _, code, at_ms, server = by_id[id_]
        counts[server, code, at_ms - at_ms % HOUR_MS] += 1
    for (server, code, hour_ms), count in counts.items():
        await _add_count(connection, layer, server, code, hour_ms, count)


async def _add_count(
    connection: AsyncConnection, layer: str, server: str, code: str, hour_ms: int, count: int
) -> None:
    key = {"layer": layer, "server": server, "code": code, "hour_ms": hour_ms}
    await insert_new(connection, refusal_counts, [{**key, "count": 0}])
    same = and_(*(refusal_counts.c[name] == value for name, value in key.items()))
    await connection.execute(update(refusal_counts).where(same).values(count=refusal_counts.c.count + count))


async def forget_counted(connection: AsyncConnection, before_ms: int) -> None:
    """Forget the ids of counted refusals seen before that time; the counts stay."""
    await connection.execute(delete(counted).where(counted.c.seen_at_ms < before_ms))


async def calls_of(
    connection: AsyncConnection, *, sub: str, owned: Collection[str], server: str | None, limit: int
) -> list[dict[str, Any]]:
    """Calls of one person or service and all calls on the owned servers, newest first, with their outcomes."""
    mine = or_(calls.c.sub == sub, calls.c.server.in_(owned)) if owned else calls.c.sub == sub
    joined = calls.outerjoin(
        outcomes,
        and_(calls.c.kind == "intent", outcomes.c.server == calls.c.server, outcomes.c.id == calls.c.id),
    )
    query = (
        select(calls, outcomes.c.status, outcomes.c.duration_ms, tools.c.minutes_saved)
        .select_from(_with_declared(joined))
        .where(mine)
        .order_by(calls.c.at_ms.desc(), calls.c.id.desc())
        .limit(limit)
    )
    if server is not None:
        query = query.where(calls.c.server == server)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def figures(connection: AsyncConnection) -> tuple[Figures, dict[str, Figures]]:
    """What was done in all, and with each server. Only allowed calls that ended well count."""
    done = calls.join(outcomes, and_(outcomes.c.server == calls.c.server, outcomes.c.id == calls.c.id))
    ended_well = and_(calls.c.kind == "intent", outcomes.c.status == "ok")
    callers = func.count(distinct(calls.c.sub))
    minutes = func.coalesce(func.sum(tools.c.minutes_saved), 0)
    rows = await connection.execute(
        select(calls.c.server, func.count(), callers, minutes)
        .select_from(_with_declared(done))
        .where(ended_well)
        .group_by(calls.c.server)
    )
    each = {row[0]: Figures(*row[1:]) for row in rows}
    # Somebody who called two servers is one caller of all: this alone is no sum.
    everybody = await connection.scalar(select(callers).select_from(done).where(ended_well))
    total = Figures(
        calls=sum(figures.calls for figures in each.values()),
        callers=everybody or 0,
        minutes_saved=sum(figures.minutes_saved for figures in each.values()),
    )
    return total, each


def _with_declared(done: FromClause) -> FromClause:
    """Calls and their outcomes, each that ended well beside its tool as the release that ran pins it.

    A call of a tool that its release does not declare has no such row beside it, so it saves nothing.
    """
    pinned = and_(
        outcomes.c.status == "ok",
        tools.c.server == calls.c.server,
        tools.c.release == calls.c.release,
        tools.c.name == calls.c.tool,
    )
    return done.outerjoin(tools, pinned)


async def keep_rejected(
    connection: AsyncConnection, server: str, unreadable: Sequence[Unreadable], now_ms: int
) -> list[Unreadable]:
    """Keep records that could not be read, and drop the oldest of the server's. Gives those that are new."""
    newest = {record.digest: record for record in unreadable[-REJECTED_KEPT:]}
    rows = [
        {
            "server": server,
            "digest": record.digest,
            "received_at_ms": now_ms,
            "problem": record.rejection.problem,
            "text": record.text,
        }
        for record in newest.values()
    ]
    new = {digest for _, digest in await insert_and_tell_new(connection, rejected_records, rows)}
    if new:
        of_server = rejected_records.c.server == server
        kept = (
            select(rejected_records.c.digest)
            .where(of_server)
            .order_by(rejected_records.c.received_at_ms.desc())
            .limit(REJECTED_KEPT)
        )
        await connection.execute(delete(rejected_records).where(of_server, rejected_records.c.digest.not_in(kept)))
    return [record for digest, record in newest.items() if digest in new]


async def count_rejected(connection: AsyncConnection, since_ms: int) -> dict[str, int]:
    """How many records of each server could not be read since that time, of those that are kept."""
    rows = await connection.execute(
        select(rejected_records.c.server, func.count())
        .where(rejected_records.c.received_at_ms >= since_ms)
        .group_by(rejected_records.c.server)
        .order_by(rejected_records.c.server)
    )
    return {row[0]: row[1] for row in rows}
