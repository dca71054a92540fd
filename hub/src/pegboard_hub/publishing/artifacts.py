"""Bytes by their digest: what was submitted, and what was built of it. Nothing here is ever changed.

They are kept in parts, and go in and out by parts: what a builder made is whole in no hub (`docs/decisions/0056`).
What comes out is held to its digest again, whatever happened to the disk beneath.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import IO, Final, Literal, NamedTuple, get_args

from sqlalchemy import and_, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.errors import PegboardError
from pegboard.core.publishing import sha256
from pegboard_hub.publishing.model import artifact_parts, artifact_uses, artifacts
from pegboard_hub.storage.database import Database, insert_new
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

Kind = Literal["source", "project", "wheel", "file", "sbom"]
KINDS: Final = frozenset(get_args(Kind))

LARGEST: Final = 128 * 1024 * 1024
"""Bytes of one artifact."""

PART: Final = 1024 * 1024
"""Bytes of one part, but of the last."""

GRACE_MS: Final = 3_600_000
"""For which an artifact is kept that nothing names yet: its builder is about to, in milliseconds."""


class Damaged(PegboardError):
    """What is kept under a digest has another: the storage has changed it. It is forgotten, so that it can be kept
    anew."""


class Content(NamedTuple):
    """Bytes in a file, read from its beginning."""

    file: IO[bytes]
    size: int
    digest: str

    @classmethod
    def of(cls, content: bytes) -> Content:
        """Bytes that are in memory already."""
        return cls(io.BytesIO(content), len(content), sha256(content))


@asynccontextmanager
async def spooled(parts: AsyncIterable[bytes]) -> AsyncIterator[Content]:
    """Bytes that come in parts, in a file that is gone at the end.

    Raises:
        StorageUnavailable: the disk with the temporary files does not take them.
    """
    hashed, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile() as file:
        async for part in parts:
            try:
                file.write(part)
            except OSError as error:
                raise StorageUnavailable(f"the disk with temporary files does not take it: {error}") from error
            hashed.update(part)
            size += len(part)
        yield Content(file, size, hashed.hexdigest())


async def put(connection: AsyncConnection, kind: Kind, content: Content, now_ms: int) -> str:
    """Keep some bytes; gives their digest. Those that are there already stay as they are, and are not swept soon."""
    if await touch(connection, content.digest, now_ms):
        return content.digest
    row = {"digest": content.digest, "kind": kind, "size": content.size, "at_ms": now_ms}
    await insert_new(connection, artifacts, [row])
    content.file.seek(0)
    for number in range(-(-content.size // PART)):
        part = {"digest": content.digest, "part": number, "content": content.file.read(PART)}
        await connection.execute(insert(artifact_parts).values(part))
    return content.digest


async def touch(connection: AsyncConnection, digest: str, now_ms: int) -> bool:
    """Keep what is there for a while longer; False where there is no such artifact."""
    there = update(artifacts).where(artifacts.c.digest == digest).values(at_ms=now_ms)
    return (await connection.execute(there)).rowcount == 1


async def parts(database: Database, digest: str) -> AsyncIterator[bytes]:
    """The bytes of a digest, part by part, each read by itself: who takes long to send them holds nothing up.

    Raises:
        Damaged: they are not those of the digest; what came before the last part may be of use to nobody.
    """
    hashed, number = hashlib.sha256(), 0
    async with database.read() as connection:
        left = await size(connection, digest) or 0
    while left > 0:
        of_it = (artifact_parts.c.digest == digest, artifact_parts.c.part == number)
        async with database.read() as connection:
            found = await connection.scalar(select(artifact_parts.c.content).where(*of_it))
        part = bytes(found or b"")
        hashed.update(part)
        left -= len(part)
        if not part or (left <= 0 and hashed.hexdigest() != digest):
            await _forget(database, digest)
            raise Damaged(f"what is kept as {digest[:12]} is not what was handed in")
        yield part
        number += 1


async def get(database: Database, digest: str) -> bytes | None:
    """The bytes of a digest, whole, if they are there: for what is small.

    Raises:
        Damaged: they are not those of the digest.
    """
    async with database.read() as connection:
        if await size(connection, digest) is None:
            return None
    return b"".join([part async for part in parts(database, digest)])


async def copy(database: Database, digest: str, file: IO[bytes]) -> int | None:
    """Write the bytes of a digest into a file; gives how many there were, None where they are not there.

    Raises:
        Damaged: they are not those of the digest.
    """
    async with database.read() as connection:
        found = await size(connection, digest)
    if found is not None:
        async for part in parts(database, digest):
            file.write(part)
    return found


async def is_whole(database: Database, digest: str) -> bool | None:
    """Whether what is kept under a digest is what was handed in; None where nothing is."""
    async with database.read() as connection:
        if await size(connection, digest) is None:
            return None
    try:
        async for _ in parts(database, digest):
            pass
    except Damaged:
        return False
    return True


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


async def kept(connection: AsyncConnection, submission: str) -> bool:
    """Whether what a submission needs is kept, so that it can run."""
    query = select(artifact_uses.c.digest).where(artifact_uses.c.submission == submission).limit(1)
    return await connection.scalar(query) is not None


async def let_go(connection: AsyncConnection, submissions: Collection[str]) -> None:
    """Note that these submissions need nothing any more."""
    await connection.execute(delete(artifact_uses).where(artifact_uses.c.submission.in_(sorted(submissions))))


async def sweep(connection: AsyncConnection, now_ms: int) -> int:
    """Remove what no submission needs; gives how many there were."""
    used = exists().where(artifact_uses.c.digest == artifacts.c.digest)
    unneeded = and_(artifacts.c.at_ms < now_ms - GRACE_MS, ~used)
    gone = select(artifacts.c.digest).where(unneeded)
    await connection.execute(delete(artifact_parts).where(artifact_parts.c.digest.in_(gone)))
    return (await connection.execute(delete(artifacts).where(unneeded))).rowcount


async def _forget(database: Database, digest: str) -> None:
    log.error("an artifact is not what was handed in, and is forgotten", extra={"digest": digest})
    async with database.write() as connection:
        await connection.execute(delete(artifact_parts).where(artifact_parts.c.digest == digest))
        await connection.execute(delete(artifacts).where(artifacts.c.digest == digest))
