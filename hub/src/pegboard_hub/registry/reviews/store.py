"""Opening reviews, and closing those that the operator's file decides."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.registry.model import Access
from pegboard_hub.registry.reviews.model import Kind, State, reviews
from pegboard_hub.registry.reviews.rules import Difference


async def open_reviews(
    connection: AsyncConnection,
    server: str,
    concerned: Mapping[Kind, Sequence[Difference]],
    release: str,
    requested: Access,
    by: str,
    why: str,
    now_ms: int,
) -> None:
    """Open a review of each kind; what was open of those kinds before is superseded.

    Args:
        connection: inside a write transaction.
        server: its name.
        concerned: the kinds, each with what differs.
        release: digest of the release to look at; empty where there is none yet.
        requested: the access to look at.
        by: who asks for it.
        why: in their words.
        now_ms: milliseconds since the epoch.
    """
    await supersede(connection, server, concerned)
    rows = [
        _row(server, kind, release, requested, listed, by, why, now_ms) | {"state": State.OPEN}
        for kind, listed in concerned.items()
    ]
    if rows:
        await connection.execute(insert(reviews), rows)


async def record_approved(
    connection: AsyncConnection,
    server: str,
    kinds: Iterable[Kind],
    release: str,
    access: Access,
    by: str,
    why: str,
    now_ms: int,
) -> None:
    """Write down reviews that were decided elsewhere, as in the operator's git."""
    kinds = tuple(kinds)
    await supersede(connection, server, kinds)
    decided = {
        "state": State.APPROVED,
        "decided_at_ms": now_ms,
        "decided_by": by,
        "outcome_why": why,
        "granted": access._asdict(),
    }
    rows = [_row(server, kind, release, access, (), by, why, now_ms) | decided for kind in kinds]
    if rows:
        await connection.execute(insert(reviews), rows)


async def supersede(
    connection: AsyncConnection, server: str, kinds: Iterable[Kind], release: str | None = None
) -> None:
    """End what is open of these kinds, or of them that look at one release: nobody asks for it any more."""
    open_ones = and_(reviews.c.server == server, reviews.c.kind.in_(list(kinds)), reviews.c.state == State.OPEN)
    if release is not None:
        open_ones = and_(open_ones, reviews.c.release == release)
    await connection.execute(update(reviews).where(open_ones).values(state=State.SUPERSEDED))


def _row(
    server: str,
    kind: Kind,
    release: str,
    requested: Access,
    changes: Sequence[Difference],
    by: str,
    why: str,
    now_ms: int,
) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(8),
        "server": server,
        "kind": kind,
        "release": release,
        "requested": requested._asdict(),
        "changes": [difference._asdict() for difference in changes],
        "opened_at_ms": now_ms,
        "opened_by": by,
        "opened_why": why,
    }
