"""What is kept of submissions that are over, and what of their bytes goes.

Kept is what serves or may be gone back to: whatever is on its way or waits, whatever a deployment names, and of each
server the newest that were approved once. Of the rest the bytes go after a while; what was said and decided stays.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import and_, delete, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import State
from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing.model import artifact_uses, deployments, submissions

KEPT_OF_A_SERVER: Final = 10
"""Releases of a server, of those that were checked and signed, whose bytes are kept whatever became of them."""

KEPT_MS: Final = 7 * 86_400_000
"""For which the bytes of one that is over are kept, in milliseconds: its author may look again, or submit it on."""

AT_REST: Final = (State.SUPERSEDED, State.ROLLED_BACK, State.FAILED)

NAMED: Final = ("live", "candidate", "previous", "leaving")
"""Columns of a deployment that name a submission which runs, or may run at once."""


async def sweep(connection: AsyncConnection, now_ms: int) -> int:
    """Let go of what nobody needs any more; gives how many artifacts went."""
    deployed = union_all(*(select(deployments.c[name]).where(deployments.c[name].is_not(None)) for name in NAMED))
    nth = func.row_number().over(
        partition_by=submissions.c.server, order_by=(submissions.c.created_at_ms.desc(), submissions.c.id)
    )
    signed = select(submissions.c.id, nth.label("nth")).where(submissions.c.signature.is_not(None)).subquery()
    newest = select(signed.c.id).where(signed.c.nth <= KEPT_OF_A_SERVER)
    over = select(submissions.c.id).where(
        and_(
            submissions.c.state.in_(AT_REST),
            submissions.c.updated_at_ms < now_ms - KEPT_MS,
            submissions.c.id.not_in(deployed),
            submissions.c.id.not_in(newest),
        )
    )
    await connection.execute(delete(artifact_uses).where(artifact_uses.c.submission.in_(over)))
    return await artifacts.sweep(connection, now_ms)
