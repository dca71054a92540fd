"""The ledger's tables: adding rows exactly once, and reading them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, distinct, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.ledger.model import Figures, calls, counted, outcomes, refusal_counts
from pegboard_hub.storage.database import insert_and_tell_new, insert_new

HOUR_MS = 3_600_000

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
        select(calls, outcomes.c.status, outcomes.c.duration_ms, outcomes.c.minutes_saved)
        .select_from(joined)
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
    columns = (
        func.count(),
        func.count(distinct(calls.c.sub)),
        func.coalesce(func.sum(outcomes.c.minutes_saved), 0),
    )
    total = (await connection.execute(select(*columns).select_from(done).where(ended_well))).one()
    each = await connection.execute(
        select(calls.c.server, *columns).select_from(done).where(ended_well).group_by(calls.c.server)
    )
    return Figures(*total), {row[0]: Figures(*row[1:]) for row in each}
