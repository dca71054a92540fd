"""Files that artifacts are made of, on this machine: fetched once, verified by digest, kept by it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from pegboard.core.publishing import Artifact, ArtifactFile
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.sdists import fetch

AT_ONCE = 8
"""Files that are fetched at the same time."""

UNUSED_S = 30 * 86_400.0
"""Seconds for which a file is kept that nobody uses."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}(/[A-Za-z0-9][A-Za-z0-9._+!-]{0,199})?")

Own = Callable[[str], Awaitable[bytes]]
"""Gives bytes that the hub keeps, by their digest."""

Platform = Callable[[], Mapping[str, Path]]
"""The platform's own wheels on this machine, by their digest."""


class ArtifactStore:
    """The files, as this machine has them.

    Args:
        home: where they are kept.
        own: asks the hub for one.
        platform: the platform's own wheels.
    """

    def __init__(self, home: Home, own: Own, platform: Platform) -> None:
        self._home = home
        self._own = own
        self._platform = platform
        self._fetching = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, artifact: Artifact) -> None:
        """Have every file of `artifact` here.

        Raises:
            OutsideFailed: one cannot be had now.
            ReleaseFailed: one is not what its digest says, or cannot be.
            OSError: it cannot be written.
        """
        async with asyncio.TaskGroup() as tasks:
            for file in artifact.files:
                tasks.create_task(self.file(file))
            tasks.create_task(self.own(artifact.project))

    async def file(self, file: ArtifactFile) -> Path:
        """One file, fetched where it is not here."""
        if not _NAME.fullmatch(file.name):
            raise ReleaseFailed(f"{file.name[:100]!a} is no file's name")
        if file.origin == "own":
            return await self.own(file.sha256)
        if file.origin == "platform":
            return self._of_platform(file)
        kept = self._home.artifact_file(file.sha256)
        if not _used(kept):
            async with self._fetching:
                with self._part(file.sha256) as part:
                    if await fetch(file.url, file.name, part) != file.sha256:
                        raise _another(file.url, file.sha256)
                    part.replace(kept)
        return kept

    async def own(self, digest: str) -> Path:
        """A file that the hub keeps, fetched where it is not here."""
        kept = self._home.artifact_file(digest)
        if not _used(kept):
            async with self._fetching:
                self.keep(await self._own(digest), digest, "the hub")
        return kept

    def prune(self, most_bytes: int | None = None) -> None:
        """Remove what nobody has used for `UNUSED_S`: what is installed needs it no more, and it can be had again.

        Args:
            most_bytes: beyond which what was used longest ago goes as well.

        Raises:
            OSError: a file cannot be removed.
        """
        oldest, kept = time.time() - UNUSED_S, 0
        found = [(path, path.stat()) for path in self._home.artifact_file("").glob("*") if path.is_file()]
        for path, stat in sorted(found, key=lambda each: each[1].st_mtime, reverse=True):
            kept += stat.st_size
            if stat.st_mtime < oldest or (most_bytes is not None and kept > most_bytes):
                path.unlink(missing_ok=True)

    def keep(self, content: bytes, digest: str, place: str) -> Path:
        """Keep a file under its digest.

        Raises:
            ReleaseFailed: it is not what `digest` says.
            OSError: it cannot be written.
        """
        if hashlib.sha256(content).hexdigest() != digest:
            raise _another(place, digest)
        kept = self._home.artifact_file(digest)
        with self._part(digest) as part:
            part.write_bytes(content)
            part.replace(kept)
        return kept

    @contextmanager
    def _part(self, digest: str) -> Iterator[Path]:
        """Where a file comes to be: another place each time, since two may have it made at once."""
        part = self._home.artifact_file(f".{digest}.{token_hex(4)}.part")
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _of_platform(self, file: ArtifactFile) -> Path:
        found = self._platform().get(file.sha256)
        if found is None:
            raise ReleaseFailed(
                f"{file.name} is not one of this platform's own packages; lock again with `uv lock --upgrade-package "
                "pegboard`, and submit again"
            )
        return found


def _another(place: str, digest: str) -> ReleaseFailed:
    return ReleaseFailed(f"what {place} gives is not what was locked: its digest differs from {digest[:12]}…")


def _used(kept: Path) -> bool:
    """Whether a file is here; it counts as used now."""
    try:
        os.utime(kept)
    except FileNotFoundError:
        return False
    return True
