"""The releases that a server has had, and how its reviews ended, read from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.reviews.model import State, reviews
from pegboard_hub.registry.tables import releases


@dataclass(frozen=True, slots=True)
class Pinned:
    """One release that was seen. Times are in milliseconds since the epoch; None: it never came to that."""

    digest: str
    semver: str
    seen_at_ms: int
    approved_at_ms: int | None
    deployed_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the newest review of one kind stands.

    Attributes:
        why: of its outcome, in the reviewer's words.
        conditions: under which it was approved.
    """

    kind: str
    state: str
    opened_at_ms: int
    decided_at_ms: int | None
    decided_by: str | None
    why: str
    conditions: str


_COLUMNS = (
    releases.c.digest,
    releases.c.semver,
    releases.c.seen_at_ms,
    releases.c.approved_at_ms,
    releases.c.deployed_at_ms,
)


async def pinned(
    connection: AsyncConnection, server: str, after: tuple[int, str] | None, limit: int, *, deployed_only: bool
) -> list[Pinned]:
    """Releases of a server, the newest first.

    Args:
        connection: inside a transaction.
        server: its name.
        after: time and digest of the last one before.
        limit: most of them.
        deployed_only: leave out what nobody could ever call.
    """
    query = select(*_COLUMNS).where(releases.c.server == server)
    if deployed_only:
        query = query.where(releases.c.deployed_at_ms.is_not(None))
    if after is not None:
        at_ms, digest = after
        seen = releases.c.seen_at_ms
        query = query.where(or_(seen < at_ms, and_(seen == at_ms, releases.c.digest > digest)))
    query = query.order_by(releases.c.seen_at_ms.desc(), releases.c.digest).limit(limit)
    return [_pinned(row) for row in await connection.execute(query)]


async def find_pinned(connection: AsyncConnection, server: str, named: str) -> Pinned | None:
    """The release of that digest or version, if there is one."""
    query = select(*_COLUMNS).where(
        releases.c.server == server, or_(releases.c.digest == named, releases.c.semver == named)
    )
    row = (await connection.execute(query.limit(1))).first()
    return None if row is None else _pinned(row)


async def outcomes(connection: AsyncConnection, server: str) -> list[Outcome]:
    """The newest review of each kind, but those that nobody asks for any more; in order of kind."""
    query = (
        select(reviews)
        .where(reviews.c.server == server, reviews.c.state != State.SUPERSEDED)
        .order_by(reviews.c.opened_at_ms, reviews.c.id)
    )
    newest = {row.kind: row for row in await connection.execute(query)}
    return [
        Outcome(
            kind=kind,
            state=row.state,
            opened_at_ms=row.opened_at_ms,
            decided_at_ms=row.decided_at_ms,
            decided_by=row.decided_by,
            why=row.outcome_why,
            conditions=row.conditions,
        )
        for kind, row in sorted(newest.items())
    ]


def _pinned(row: Any) -> Pinned:
    return Pinned(row.digest, row.semver, row.seen_at_ms, row.approved_at_ms, row.deployed_at_ms)
