"""The table of messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Integer, cast, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.notify.model import Message, Queue, State, notifications

_WAITS = notifications.c.state == "waiting"
_GIVEN_UP = notifications.c.state == "given_up"


async def add(db: AsyncConnection, messages: Sequence[Message]) -> None:
    """Keep messages, in the transaction that makes what they tell of."""
    if messages:
        rows = [
            {
                "id": each.id,
                "destination": each.destination,
                "event": each.event,
                "body": each.body,
                "at_ms": each.at_ms,
                "state": "waiting",
                "next_at_ms": each.at_ms,
                "attempts": 0,
                "trouble": "",
            }
            for each in messages
        ]
        await db.execute(insert(notifications), rows)


async def destinations_due(db: AsyncConnection, now_ms: int) -> set[str]:
    """Destinations that something is to be tried at now."""
    table = notifications.c
    query = select(table.destination).where(_WAITS, table.next_at_ms <= now_ms).distinct()
    return set(await db.scalars(query))


async def due(db: AsyncConnection, destination: str, now_ms: int, limit: int) -> list[Message]:
    """Messages to a destination that are to be tried now, those first that have waited longest for it."""
    table = notifications.c
    query = (
        select(table.id, table.event, table.body, table.at_ms, table.attempts, table.trouble)
        .where(_WAITS, table.destination == destination, table.next_at_ms <= now_ms)
        .order_by(table.next_at_ms, table.id)
        .limit(limit)
    )
    return [
        Message(row.id, destination, row.event, row.body, row.at_ms, row.attempts, row.trouble)
        for row in await db.execute(query)
    ]


async def tried(db: AsyncConnection, id_: str, state: State, at_ms: int, trouble: str) -> None:
    """Note an attempt at one that still waits.

    Args:
        db: a write.
        id_: of the message.
        state: what it is now.
        at_ms: when it is tried again, or when it ended.
        trouble: why the attempt failed.
    """
    changed = {
        "state": state,
        "next_at_ms": at_ms,
        "attempts": notifications.c.attempts + 1,
        "trouble": trouble,
    }
    await db.execute(update(notifications).where(notifications.c.id == id_, _WAITS).values(changed))


async def give_up(db: AsyncConnection, now_ms: int, trouble: str, *, before_ms: int) -> int:
    """Give up what has waited since before `before_ms`; gives how many."""
    return await _give_up(db, notifications.c.at_ms < before_ms, now_ms, trouble)


async def give_up_others(db: AsyncConnection, destinations: Collection[str], now_ms: int, trouble: str) -> int:
    """Give up what waits for a destination that is none of these; gives how many."""
    return await _give_up(db, notifications.c.destination.not_in(list(destinations)), now_ms, trouble)


async def give_up_beyond(db: AsyncConnection, destination: str, most: int, now_ms: int, trouble: str) -> int:
    """Give up the oldest of what waits for a destination beyond `most`; gives how many."""
    table = notifications.c
    newest = (
        select(table.id)
        .where(_WAITS, table.destination == destination)
        .order_by(table.at_ms.desc(), table.id)
        .limit(most)
    )
    beyond = (table.destination == destination) & table.id.not_in(newest.scalar_subquery())
    return await _give_up(db, beyond, now_ms, trouble)


async def _give_up(db: AsyncConnection, which: object, now_ms: int, trouble: str) -> int:
    changed = {"state": "given_up", "next_at_ms": now_ms, "trouble": trouble}
    done = await db.execute(update(notifications).where(_WAITS, which).values(changed))  # type: ignore[arg-type]
    return done.rowcount


async def forget(db: AsyncConnection, delivered_before_ms: int, given_up_before_ms: int) -> None:
    """Remove what was delivered, or given up, before."""
    for state, before_ms in (("delivered", delivered_before_ms), ("given_up", given_up_before_ms)):
        old = (notifications.c.state == state) & (notifications.c.next_at_ms < before_ms)
        await db.execute(delete(notifications).where(old))


async def queues(db: AsyncConnection) -> dict[str, Queue]:
    """How each destination stands that something waits for, or was given up for."""
    table = notifications.c
    counted = (
        select(
            table.destination,
            func.sum(cast(_WAITS, Integer)).label("waiting"),
            func.min(table.at_ms).filter(_WAITS).label("oldest"),
            func.max(table.attempts).filter(_WAITS).label("attempts"),
            func.sum(cast(_GIVEN_UP, Integer)).label("given_up"),
        )
        .where(table.state.in_(["waiting", "given_up"]))
        .group_by(table.destination)
    )
    found = {}
    for row in await db.execute(counted):
        trouble = ""
        if row.attempts:
            tried_most = _WAITS & (table.destination == row.destination) & (table.attempts == row.attempts)
            trouble = await db.scalar(select(table.trouble).where(tried_most).limit(1)) or ""
        found[row.destination] = Queue(
            row.destination, int(row.waiting), row.oldest, row.attempts or 0, trouble, int(row.given_up)
        )
    return found
