"""The ledger's tables: adding rows exactly once, and counting what is nobody's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.ledger.model import calls, counted, outcomes, refusal_counts, rejected_records
from pegboard_hub.ledger.reading import Unreadable
from pegboard_hub.registry.tables import tools
from pegboard_hub.storage.database import add_up, insert_and_tell_new

HOUR_MS = 3_600_000

REJECTED_KEPT = 1000
"""How many of one server's unreadable records are kept: the newest."""

Refused = tuple[str, str, int, str]
"""A refusal of nobody in particular: id, code, milliseconds since the epoch, server it was aimed at."""


async def add_new(
    connection: AsyncConnection, table: Table, rows: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Add rows of one kind that belong to one server; those that are there already are left as they are.

    Returns:
        The rows that are new, by their id. Of several with one id it is the first that counts.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(row["id"], row)
    new = await insert_and_tell_new(connection, table, first.values())
    at = [column.name for column in table.primary_key.columns].index("id")
    return {key[at]: first[key[at]] for key in new}


class Beside(NamedTuple):
    """What is known of a call beside its row in `calls`: its outcome, and the minutes its pinned tool saves."""

    outcome: Mapping[str, Any] | None = None
    minutes: float = 0


RowKey = tuple[str, str, str]


def row_key(row: Mapping[str, Any]) -> RowKey:
    """The primary key of a row of `calls`."""
    return row["server"], row["kind"], row["id"]


async def beside(connection: AsyncConnection, rows: Iterable[Mapping[str, Any]]) -> dict[RowKey, Beside]:
    """What belongs beside rows of `calls`."""
    ended = [row for row in rows if row["kind"] == "intent" and row["status"]]
    results: dict[tuple[str, str], Mapping[str, Any]] = {}
    for server, ids in _grouped((row["server"], row["id"]) for row in ended).items():
        found = select(outcomes).where(outcomes.c.server == server, outcomes.c.id.in_(ids))
        results |= {(server, row["id"]): dict(row) for row in (await connection.execute(found)).mappings()}
    minutes: dict[tuple[str, str, str], float] = {}
    for server, release in {(row["server"], row["release"]) for row in ended}:
        pinned = select(tools.c.name, tools.c.minutes_saved)
        declared = await connection.execute(pinned.where(tools.c.server == server, tools.c.release == release))
        minutes |= {(server, release, name): saved for name, saved in declared}
    return {
        row_key(row): Beside(
            results.get((row["server"], row["id"])), minutes.get((row["server"], row["release"], row["tool"]), 0)
        )
        for row in ended
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


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
    hours = [
        {"layer": layer, "server": server, "code": code, "hour_ms": hour_ms, "count": count}
        for (server, code, hour_ms), count in counts.items()
    ]
    await add_up(connection, refusal_counts, hours)


async def forget_counted(connection: AsyncConnection, before_ms: int) -> None:
    """Forget the ids of counted refusals seen before that time; the counts stay."""
    await connection.execute(delete(counted).where(counted.c.seen_at_ms < before_ms))


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


async def count_without_outcome(connection: AsyncConnection, before_ms: int) -> int:
    """How many calls from before that time have no outcome."""
    without = (calls.c.kind == "intent") & (calls.c.status == "") & (calls.c.at_ms < before_ms)
    return int(await connection.scalar(select(func.count()).where(without)) or 0)


async def count_rejected(connection: AsyncConnection, since_ms: int) -> dict[str, int]:
    """How many records of each server could not be read since that time, of those that are kept."""
    rows = await connection.execute(
        select(rejected_records.c.server, func.count())
        .where(rejected_records.c.received_at_ms >= since_ms)
        .group_by(rejected_records.c.server)
        .order_by(rejected_records.c.server)
    )
    return {row[0]: row[1] for row in rows}
