"""What pages read of the registry's tables, page by page: a server's releases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.tables import releases


class ReleasePlace(NamedTuple):
    """A release's place in the order of a server's: the newest first, and total."""

    seen_at_ms: int
    digest: str


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release of a server. Times are milliseconds since the epoch.

    Attributes:
        approved_at_ms: None while it waits, or where it was turned down.
        deployed_at_ms: when it first became what is called; None: never.
    """

    digest: str
    semver: str
    seen_at_ms: int
    approved_at_ms: int | None
    deployed_at_ms: int | None


async def releases_of(
    connection: AsyncConnection,
    server: str,
    after: ReleasePlace | None = None,
    limit: int = 50,
    *,
    deployed_only: bool = False,
) -> tuple[list[ReleaseRow], ReleasePlace | None]:
    """A server's releases, the newest first, and where to go on; None after the last.

    With `deployed_only` those are left out that nobody could ever call.
    """
    order = (releases.c.seen_at_ms, releases.c.digest)
    names = (*ReleaseRow.__slots__,)
    query = select(*(releases.c[name] for name in names)).where(releases.c.server == server)
    if deployed_only:
        query = query.where(releases.c.deployed_at_ms.is_not(None))
    if after is not None:
        behind = and_(releases.c.seen_at_ms == after.seen_at_ms, releases.c.digest < after.digest)
        query = query.where(or_(releases.c.seen_at_ms < after.seen_at_ms, behind))
    rows = await connection.execute(query.order_by(*(column.desc() for column in order)).limit(limit + 1))
    found = [ReleaseRow(**row._mapping) for row in rows]
    last = found[limit - 1] if len(found) > limit else None
    return found[:limit], ReleasePlace(last.seen_at_ms, last.digest) if last else None
