"""Bytes by their digest: what was submitted, and what was built of it. Nothing here is ever changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Literal, get_args

from sqlalchemy import and_, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.publishing import sha256
from pegboard_hub.publishing.model import artifact_uses, artifacts
from pegboard_hub.storage.database import insert_new

Kind = Literal["source", "project", "wheel", "file", "sbom"]
KINDS: Final = frozenset(get_args(Kind))

LARGEST: Final = 128 * 1024 * 1024
"""Bytes of one artifact."""

GRACE_MS: Final = 3_600_000
"""For which an artifact is kept that nothing names yet: its builder is about to, in milliseconds."""


async def put(connection: AsyncConnection, kind: Kind, content: bytes, now_ms: int) -> str:
    """Keep some bytes; gives their digest. Those that are there already stay as they are, and are not swept soon."""
    digest = sha256(content)
    if not await touch(connection, digest, now_ms):
        row = {"digest": digest, "kind": kind, "size": len(content), "content": content, "at_ms": now_ms}
        await insert_new(connection, artifacts, [row])
    return digest


async def touch(connection: AsyncConnection, digest: str, now_ms: int) -> bool:
    """Keep what is there for a while longer; False where there is no such artifact."""
    there = update(artifacts).where(artifacts.c.digest == digest).values(at_ms=now_ms)
    return (await connection.execute(there)).rowcount == 1


async def get(connection: AsyncConnection, digest: str) -> bytes | None:
    """The bytes of a digest, if they are there."""
    found = await connection.scalar(select(artifacts.c.content).where(artifacts.c.digest == digest))
    return bytes(found) if found is not None else None


async def size(connection: AsyncConnection, digest: str) -> int | None:
    """How many bytes a digest names; None where they are not there."""
    found = await connection.scalar(select(artifacts.c.size).where(artifacts.c.digest == digest))
    return int(found) if found is not None else None


async def missing(connection: AsyncConnection, digests: Collection[str]) -> list[str]:
    """Those of some digests whose bytes are not there, in order."""
    there = set(await connection.scalars(select(artifacts.c.digest).where(artifacts.c.digest.in_(sorted(digests)))))
    return sorted(set(digests) - there)


async def use(connection: AsyncConnection, submission: str, digests: Iterable[str]) -> None:
    """Note that a submission needs these."""
    await insert_new(
        connection, artifact_uses, [{"submission": submission, "digest": digest} for digest in set(digests)]
    )


async def let_go(connection: AsyncConnection, submissions: Collection[str]) -> None:
    """Note that these submissions need nothing any more."""
    await connection.execute(delete(artifact_uses).where(artifact_uses.c.submission.in_(sorted(submissions))))


async def sweep(connection: AsyncConnection, now_ms: int) -> int:
    """Remove what no submission needs; gives how many there were."""
    used = exists().where(artifact_uses.c.digest == artifacts.c.digest)
    unneeded = and_(artifacts.c.at_ms < now_ms - GRACE_MS, ~used)
    return (await connection.execute(delete(artifacts).where(unneeded))).rowcount
