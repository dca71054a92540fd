"""The table of joined edges."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.common.joining import EdgeWord
from pegboard_hub.edges.model import JoinedEdge, edges


async def every(db: AsyncConnection) -> list[JoinedEdge]:
    """Every edge that ever was, the newest last."""
    return [_edge(row) for row in await db.execute(select(edges).order_by(edges.c.seq))]


async def add(db: AsyncConnection, name: str, digest: str, by: str, spiffe_id: str, now_ms: int) -> None:
    """Add an edge."""
    values = {"name": name, "digest": digest, "spiffe_id": spiffe_id or None, "added_at_ms": now_ms, "added_by": by}
    await db.execute(insert(edges).values(values))


async def remove(db: AsyncConnection, seq: int, by: str, why: str, now_ms: int) -> None:
    """Note that an edge is none any more."""
    values = {"removed_at_ms": now_ms, "removed_by": by, "removed_why": why}
    await db.execute(update(edges).where(edges.c.seq == seq).values(values))


async def heard(db: AsyncConnection, edge: JoinedEdge) -> None:
    """Keep when an edge was last heard of, and its word."""
    word = edge.word.model_dump_json() if edge.word else None
    await db.execute(update(edges).where(edges.c.seq == edge.seq).values(heard_at_ms=edge.heard_at_ms, word=word))


def _edge(row: Any) -> JoinedEdge:
    return JoinedEdge(
        seq=row.seq,
        name=row.name,
        digest=row.digest,
        added_at_ms=row.added_at_ms,
        added_by=row.added_by,
        removed_at_ms=row.removed_at_ms,
        removed_by=row.removed_by or "",
        removed_why=row.removed_why or "",
        heard_at_ms=row.heard_at_ms,
        word=_word(row.word),
        spiffe_id=row.spiffe_id or "",
    )


def _word(text: str | None) -> EdgeWord | None:
    try:
        return EdgeWord.model_validate_json(text) if text else None
    except ValidationError:
        return None  # of another version; it says it anew within seconds
