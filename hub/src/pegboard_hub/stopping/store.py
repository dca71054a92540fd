"""The tables of stops."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.stops import StopKind
from pegboard_hub.identity.clients.model import clients
from pegboard_hub.identity.clients.store import connected_ids
from pegboard_hub.registry.history import Actor
from pegboard_hub.stopping.model import Event, Stop, stop_history, stop_orders


async def put(db: AsyncConnection, stop: Stop) -> None:
    """Keep a stop, in the place of one of the same."""
    await take(db, stop.kind, stop.name)
    row = {
        "kind": stop.kind,
        "name": stop.name,
        "why": stop.why,
        "actor": stop.by.sub,
        "actor_kind": stop.by.kind,
        "role": stop.role,
        "at_ms": stop.at_ms,
        "until_ms": stop.until_ms,
    }
    await db.execute(insert(stop_orders).values(row))


async def take(db: AsyncConnection, kind: StopKind, name: str) -> None:
    """Forget a stop."""
    await db.execute(delete(stop_orders).where(_is(kind, name)))


async def find(db: AsyncConnection, kind: StopKind, name: str) -> Stop | None:
    """The stop of that, if somebody ordered one."""
    row = (await db.execute(select(stop_orders).where(_is(kind, name)))).one_or_none()
    return _stop(row) if row else None


async def orders(db: AsyncConnection) -> list[Stop]:
    """Every stop that somebody ordered, the newest first."""
    query = select(stop_orders).order_by(stop_orders.c.at_ms.desc(), stop_orders.c.kind, stop_orders.c.name)
    return [_stop(row) for row in await db.execute(query)]


async def note(db: AsyncConnection, stop: Stop, action: str, why: str, by: Actor, now_ms: int) -> None:
    """Write into the history what was done about a stop, in the transaction that does it."""
    row = {
        "at_ms": now_ms,
        "kind": stop.kind,
        "name": stop.name,
        "action": action,
        "why": why,
        "actor": by.sub,
        "actor_kind": by.kind,
        "until_ms": stop.until_ms if action == "stop" else None,
    }
    await db.execute(insert(stop_history).values(row))


async def newest(db: AsyncConnection) -> int:
    """The number of the newest entry of the history; 0 while there is none."""
    return int(await db.scalar(select(func.max(stop_history.c.seq))) or 0)


async def events(db: AsyncConnection, limit: int) -> list[Event]:
    """The history, newest first."""
    query = select(stop_history).order_by(stop_history.c.seq.desc()).limit(limit)
    return [_event(row) for row in await db.execute(query)]


async def ids_of(db: AsyncConnection, software: str) -> set[str]:
    """Every client id under which a software is known, has connected, or is registered."""
    known = await db.scalars(select(clients.c.client_id).where(clients.c.software == software))
    return {software, *known, *await connected_ids(db, software)}


def _is(kind: StopKind, name: str) -> Any:
    return and_(stop_orders.c.kind == kind, stop_orders.c.name == name)


def _event(row: Any) -> Event:
    by = Actor(row.actor, row.actor_kind)
    return Event(row.seq, row.at_ms, row.kind, row.name, row.action, row.why, by, row.until_ms)


def _stop(row: Any) -> Stop:
    return Stop(row.kind, row.name, row.why, Actor(row.actor, row.actor_kind), row.role, row.at_ms, row.until_ms)
