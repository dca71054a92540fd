"""Registered surfaces and exchanges in the database."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.surfaces.model import (
    ActingSurface,
    Action,
    By,
    Event,
    Exchange,
    acting_surface_history,
    acting_surfaces,
    exchanges,
    used_assertions,
)
from pegboard_hub.storage.database import batches, insert_and_tell_new


async def registered(db: AsyncConnection) -> dict[str, ActingSurface]:
    """All of them, by client id."""
    rows = await db.execute(select(acting_surfaces).order_by(acting_surfaces.c.client_id))
    return {row.client_id: ActingSurface.of(row.client_id, row.facts, row.version) for row in rows}


async def find(db: AsyncConnection, client_id: str) -> ActingSurface | None:
    """The one of that id."""
    row = (await db.execute(select(acting_surfaces).where(acting_surfaces.c.client_id == client_id))).one_or_none()
    return ActingSurface.of(row.client_id, row.facts, row.version) if row else None


async def put(db: AsyncConnection, surface: ActingSurface) -> None:
    """Keep one, in the place of what it was."""
    await remove(db, surface.client_id)
    row = {"client_id": surface.client_id, "version": surface.version, "facts": surface.facts()}
    await db.execute(insert(acting_surfaces).values(row))


async def remove(db: AsyncConnection, client_id: str) -> None:
    """Forget one."""
    await db.execute(delete(acting_surfaces).where(acting_surfaces.c.client_id == client_id))


async def note(db: AsyncConnection, surface: ActingSurface, action: Action, by: By, why: str, now_ms: int) -> int:
    """Write into the history what was done, in the transaction that does it; gives the entry's number."""
    row = {
        "at_ms": now_ms,
        "client_id": surface.client_id,
        "action": action,
        "actor": by.sub,
        "actor_kind": by.kind,
        "why": why,
        "facts": surface.facts(),
    }
    result = await db.execute(insert(acting_surface_history).values(row).returning(acting_surface_history.c.seq))
    return int(result.scalar_one())


async def newest(db: AsyncConnection) -> int:
    """The number of the newest entry of the history; 0 while there is none."""
    return int(await db.scalar(select(func.max(acting_surface_history.c.seq))) or 0)


async def events(db: AsyncConnection, client_id: str | None, limit: int) -> list[Event]:
    """The history, newest first; of one surface, or of all."""
    query = select(acting_surface_history).order_by(acting_surface_history.c.seq.desc()).limit(limit)
    if client_id is not None:
        query = query.where(acting_surface_history.c.client_id == client_id)
    return [
        Event(
            row.seq,
            row.at_ms,
            row.action,
            By(row.actor, row.actor_kind),
            row.why,
            ActingSurface.of(row.client_id, row.facts, row.seq),
        )
        for row in await db.execute(query)
    ]


async def use(db: AsyncConnection, client_id: str, digest: str, until_ms: int) -> bool:
    """Use an assertion up; False when it was used before."""
    row = {"client_id": client_id, "digest": digest, "until_ms": until_ms}
    return bool(await insert_and_tell_new(db, used_assertions, [row]))


async def add(db: AsyncConnection, exchange: Exchange) -> None:
    """Keep the record of an exchange."""
    await db.execute(insert(exchanges).values(asdict(exchange)))


async def latest(db: AsyncConnection, client_id: str, limit: int) -> list[Exchange]:
    """The exchanges of a surface, newest first."""
    query = select(exchanges).where(exchanges.c.client_id == client_id)
    rows = await db.execute(query.order_by(exchanges.c.at_ms.desc(), exchanges.c.id).limit(limit))
    return [Exchange(**row._mapping) for row in rows]


async def live_tokens(db: AsyncConnection, client_id: str, now_ms: int) -> list[str]:
    """The `jti` of each token of a surface that has not ended."""
    query = select(exchanges.c.id).where(exchanges.c.client_id == client_id, exchanges.c.expires_at_ms > now_ms)
    return list(await db.scalars(query))


async def exchanged_tokens(db: AsyncConnection, of: list[str], now_ms: int) -> list[str]:
    """The `jti` of each token that connections were exchanged for and that has not ended."""
    found: list[str] = []
    for some in batches(of):
        query = select(exchanges.c.id).where(exchanges.c.connection.in_(some), exchanges.c.expires_at_ms > now_ms)
        found += await db.scalars(query)
    return found


async def forget(db: AsyncConnection, assertions_before_ms: int, exchanges_before_ms: int) -> None:
    """Forget assertions that expired before a time, and exchanges of before another."""
    await db.execute(delete(used_assertions).where(used_assertions.c.until_ms < assertions_before_ms))
    await db.execute(delete(exchanges).where(exchanges.c.at_ms < exchanges_before_ms))
