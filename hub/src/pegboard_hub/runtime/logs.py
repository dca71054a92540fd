"""Keeping the processes' logs small."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.common.rotation import KEPT, make_room, prune

logger = logging.getLogger(__name__)

LARGEST_BYTES = 16 * 1024 * 1024
"""A log is rotated when it is larger; so much of its end is kept."""

LOOK_S = 5.0
"""How often the logs are looked at, in seconds."""

_CHUNK = 1024 * 1024


class LogRotation:
    """Rotates every log of a home but the access log, which the edge's agent rotates itself.

    A process holds its log open, so the log is copied and then cut in place: all write with O_APPEND. What a process
    writes between the copy and the cut is lost, so this is no way for what a ledger needs.
    """

    def __init__(self, home: Home, largest: int = LARGEST_BYTES, kept: int = KEPT) -> None:
        self._folder = home.log("hub").parent
        self._apart = home.edge_access_log
        self._largest = largest
        self._kept = kept
        self._told: set[Path] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Rotate what is too large now. What cannot be rotated is told once, and tried again at the next look."""
        for log in self._folder.glob("*.log"):
            try:
                if log != self._apart and log.stat().st_size > self._largest:
                    self._rotate(log)
                self._told.discard(log)
            except OSError as error:
                if log not in self._told:
                    logger.warning("%s cannot be rotated and goes on growing: %s", log, error.strerror)
                self._told.add(log)

    def _rotate(self, log: Path) -> None:
        part = make_room(log)
        prune(log, self._kept)
        try:
            _copy_end(log, part, self._largest)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        os.truncate(log, 0)


def _copy_end(log: Path, part: Path, most: int) -> None:
    """Copy the last `most` bytes and whatever is written meanwhile, at most as much again."""
    with log.open("rb") as source, part.open("xb") as target:
        os.fchmod(target.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
        source.seek(max(0, os.fstat(source.fileno()).st_size - most))
        left = 2 * most
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)
