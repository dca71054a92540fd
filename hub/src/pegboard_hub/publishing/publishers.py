"""Publishers: services, as a team's CI, that may submit releases of one server, and nothing else."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.publishing.model import publishers
from pegboard_hub.storage.database import insert_and_tell_new

MOST: Final = 20
"""Publishers of one server."""

LONGEST: Final = 255
"""Characters of a publisher's SPIFFE ID."""


class Publisher(NamedTuple):
    """A service that may submit. `at_ms`: since when, in milliseconds since the epoch."""

    service: str
    why: str
    actor: str
    at_ms: int


async def add(connection: AsyncConnection, server: str, service: str, why: str, actor: str, now_ms: int) -> bool:
    """Let a service submit releases of a server; False where it may already."""
    row = {"server": server, "service": service, "why": why, "actor": actor, "at_ms": now_ms}
    return bool(await insert_and_tell_new(connection, publishers, [row]))


async def remove(connection: AsyncConnection, server: str, service: str) -> bool:
    """Let it submit no more; False where it might not anyway."""
    named = (publishers.c.server == server, publishers.c.service == service)
    return (await connection.execute(delete(publishers).where(*named))).rowcount == 1


async def of(connection: AsyncConnection, server: str) -> list[Publisher]:
    """The publishers of a server, by name."""
    query = select(publishers).where(publishers.c.server == server).order_by(publishers.c.service)
    return [Publisher(row.service, row.why, row.actor, row.at_ms) for row in await connection.execute(query)]


async def count(connection: AsyncConnection, server: str) -> int:
    """How many publishers a server has."""
    query = select(func.count()).select_from(publishers).where(publishers.c.server == server)
    return int(await connection.scalar(query) or 0)


async def may_submit(connection: AsyncConnection, service: str, server: str | None = None) -> bool:
    """Whether a service may submit releases of a server, or of any."""
    named = publishers.c.service == service
    query = select(exists().where(named if server is None else named & (publishers.c.server == server)))
    return bool(await connection.scalar(query))
