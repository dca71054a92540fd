"""What is kept of submissions that are over, and what of their bytes goes.

Kept is what serves or may be gone back to: whatever is on its way or waits, whatever a deployment names, and of each
server the newest that were approved once. Of the rest the bytes go after a while; what was said and decided stays.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, and_, delete, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import State
from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing.model import artifact_uses, deployments, submissions
from pegboard_hub.publishing.model import artifacts as stored

KEPT_OF_A_SERVER: Final = 10
"""Releases of a server, of those that were checked and signed, whose bytes are kept whatever became of them."""

KEPT_MS: Final = 7 * 86_400_000
"""For which the bytes of one that is over are kept, in milliseconds: its author may look again, or submit it on."""

AT_REST: Final = (State.SUPERSEDED, State.ROLLED_BACK, State.FAILED)

NAMED: Final = ("live", "candidate", "previous", "leaving")
"""Columns of a deployment that name a submission which runs, or may run at once."""

_NAMED = union_all(*(select(deployments.c[name]).where(deployments.c[name].is_not(None)) for name in NAMED))

_USED = submissions.c.id.in_(select(artifact_uses.c.submission))
"""What still has bytes: of all that ever were submitted it is little, after some years."""

_OVER = and_(submissions.c.state.in_(AT_REST), submissions.c.id.not_in(_NAMED))
"""What is over: its bytes may go."""


async def sweep(connection: AsyncConnection, now_ms: int, most_of_a_server: int) -> int:
    """Let go of what nobody needs any more; gives how many artifacts went.

    Args:
        connection: of a write transaction.
        now_ms: milliseconds since the epoch.
        most_of_a_server: bytes that are kept of one server.
    """
    nth = func.row_number().over(
        partition_by=submissions.c.server, order_by=(submissions.c.created_at_ms.desc(), submissions.c.id)
    )
    signed = select(submissions.c.id, nth.label("nth")).where(_USED, submissions.c.signature.is_not(None)).subquery()
    newest = select(signed.c.id).where(signed.c.nth <= KEPT_OF_A_SERVER)
    old = and_(_USED, _OVER, submissions.c.updated_at_ms < now_ms - KEPT_MS, submissions.c.id.not_in(newest))
    await connection.execute(
        delete(artifact_uses).where(artifact_uses.c.submission.in_(select(submissions.c.id).where(old)))
    )
    for server in list(await connection.scalars(_servers_beyond(most_of_a_server))):
        await make_room(connection, server, most_of_a_server)
    return await artifacts.sweep(connection, now_ms)


async def make_room(connection: AsyncConnection, server: str, most: int) -> int:
    """Let go of the oldest of a server that are over, until no more than `most` bytes stay; gives how many do."""
    kept = await _kept_of(connection, server)
    if kept <= most:
        return kept
    over = select(submissions.c.id).where(_USED, _OVER, submissions.c.server == server)
    for oldest in list(await connection.scalars(over.order_by(submissions.c.created_at_ms))):
        await artifacts.let_go(connection, [oldest])
        kept = await _kept_of(connection, server)
        if kept <= most:
            break
    return kept


async def _kept_of(connection: AsyncConnection, server: str) -> int:
    """Bytes that the submissions of a server need, what several need once."""
    needed = select(artifact_uses.c.digest).join(submissions).where(submissions.c.server == server)
    query = select(func.coalesce(func.sum(stored.c.size), 0)).where(stored.c.digest.in_(needed))
    return int(await connection.scalar(query) or 0)


def _servers_beyond(most: int) -> Select[Any]:
    """Servers of which more may be kept; what several submissions need counts for each here."""
    joined = artifact_uses.join(submissions).join(stored, stored.c.digest == artifact_uses.c.digest)
    size = func.sum(stored.c.size)
    return select(submissions.c.server).select_from(joined).group_by(submissions.c.server).having(size > most)
