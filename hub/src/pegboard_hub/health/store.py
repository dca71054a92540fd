"""The tables of health: written as reports come, read when the hub starts and when somebody asks for history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.health.model import health, health_history, probers
from pegboard_hub.health.report import Transition
from pegboard_hub.registry.status import Probed, ProbedState
from pegboard_hub.storage.database import batches, insert_new, put


class Heard(NamedTuple):
    """When the prober last reported, in milliseconds since the epoch, and how often its word changed since."""

    at_ms: int = 0
    changes: int = 0


class Entry(NamedTuple):
    """One transition of one server."""

    at_ms: int
    state: ProbedState
    why: str


async def heard(connection: AsyncConnection) -> Heard:
    """Of the prober that reported last."""
    row = (await connection.execute(select(probers).order_by(probers.c.heard_at_ms.desc()).limit(1))).first()
    return Heard(row.heard_at_ms, row.changes) if row else Heard()


async def save_heard(connection: AsyncConnection, name: str, word: Heard) -> None:
    """Keep that a prober reported."""
    await put(connection, probers, [{"name": name, "heard_at_ms": word.at_ms, "changes": word.changes}])


async def load(connection: AsyncConnection) -> dict[str, Probed]:
    """The prober's last word on each server."""
    rows = await connection.execute(select(health))
    return {row.server: Probed(row.state, row.since_ms, row.why, row.checked_at_ms) for row in rows}


async def save(connection: AsyncConnection, words: Mapping[str, Probed]) -> None:
    """Keep the prober's word on these servers."""
    await put(connection, health, [{"server": server, **word._asdict()} for server, word in words.items()])


async def add(connection: AsyncConnection, transitions: Iterable[Transition]) -> None:
    """Keep transitions; those that are known already are left alone."""
    await insert_new(connection, health_history, [each.model_dump() for each in transitions])


async def history(connection: AsyncConnection, server: str, before_ms: int | None, limit: int) -> list[Entry]:
    """A server's transitions, newest first, from before that time."""
    found = select(health_history).where(health_history.c.server == server)
    if before_ms is not None:
        found = found.where(health_history.c.at_ms < before_ms)
    rows = await connection.execute(found.order_by(health_history.c.at_ms.desc()).limit(limit))
    return [Entry(row.at_ms, row.state, row.why) for row in rows]


async def forget(connection: AsyncConnection, before_ms: int, most: int, gone: Sequence[str]) -> None:
    """Drop transitions from before that time, all but the `most` newest of each server, and the word on servers gone.

    Each server's last transition stays, however old: it says since when things are as they are.
    """
    newest = select(func.max(health_history.c.at_ms).label("at_ms"), health_history.c.server).group_by(
        health_history.c.server
    )
    last = newest.subquery()
    is_last = (
        select(last.c.at_ms)
        .where(last.c.server == health_history.c.server, last.c.at_ms == health_history.c.at_ms)
        .exists()
    )
    await connection.execute(delete(health_history).where(health_history.c.at_ms < before_ms, ~is_last))
    many = select(health_history.c.server).group_by(health_history.c.server).having(func.count() > most)
    for server in (await connection.scalars(many)).all():
        of_server = health_history.c.server == server
        kept = select(health_history.c.at_ms).where(of_server).order_by(health_history.c.at_ms.desc()).limit(most)
        await connection.execute(delete(health_history).where(of_server, health_history.c.at_ms.not_in(kept)))
    for part in batches(gone):
        await connection.execute(delete(health).where(health.c.server.in_(part)))
        await connection.execute(delete(health_history).where(health_history.c.server.in_(part)))
