"""Reading Envoy's access log from where it was left, over restarts and rotation."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pegboard_hub.common.home import replace_file

logger = logging.getLogger(__name__)

Line = dict[str, Any]
"""One line of the access log; its fields are `listener.LOG_FIELDS`."""

MOST_BYTES = 256 * 1024
"""How much is read at a time."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log: the file it was in, by its inode, and how many bytes are done."""

    inode: int
    offset: int


class AccessLog:
    """The access log and how far it was read. A line counts as read when `done` was told so."""

    def __init__(self, path: Path, mark: Path) -> None:
        """Continue.

        Args:
            path: the log.
            mark: file that remembers the place.
        """
        self._path = path
        self._mark = mark
        self._place = self._remembered()

    @property
    def place(self) -> Place:
        """Everything before it was dealt with."""
        return self._place

    def unread_bytes(self) -> int:
        """Bytes behind the place, in the log and its parts.

        Raises:
            OSError: the folder cannot be read.
        """
        files = self._files()
        inodes = [inode for _, inode, _ in files]
        known = self._place.inode in inodes
        behind = files[inodes.index(self._place.inode) :] if known else files
        return max(sum(size for _, _, size in behind) - (self._place.offset if known else 0), 0)

    def read(self) -> tuple[list[Line], Place]:
        """The next whole lines, and the place behind them. No lines means that there are none yet.

        Raises:
            OSError: the log cannot be read.
        """
        file, place = self._file()
        if file is None:
            return [], place
        with file.open("rb") as log:
            log.seek(place.offset)
            chunk = log.read(MOST_BYTES)
        whole = chunk[: chunk.rfind(b"\n") + 1]
        if not whole and len(chunk) == MOST_BYTES:
            whole = chunk  # not a line of ours: no line is that long
        return list(_lines(whole)), Place(place.inode, place.offset + len(whole))

    def done(self, place: Place) -> None:
        """Remember that everything before `place` was dealt with."""
        if place != self._place:
            self._place = place
            replace_file(self._mark, json.dumps({"inode": place.inode, "offset": place.offset}))

    def _file(self) -> tuple[Path | None, Place]:
        """The file to read next: where we were until its end, then the one that was begun after it."""
        files = self._files()
        if not files:
            return None, self._place
        inodes = [inode for _, inode, _ in files]
        if self._place.inode not in inodes:
            # Nothing is known to be dealt with: the hub takes each refusal once, so all of it is read.
            path, inode, _ = files[0]
            return path, Place(inode, 0)
        at = inodes.index(self._place.inode)
        path, inode, size = files[at]
        if size < self._place.offset:
            return path, Place(inode, 0)  # it was cut to nothing in place
        # An empty file behind it was made at a rotation, and Envoy may still write to this one.
        begun = next(((later, inode) for later, inode, length in files[at + 1 :] if length), None)
        # Asked for again: the last lines may have come after the first look and before the next file's first.
        if begun is not None and path.stat().st_size == self._place.offset:
            return begun[0], Place(begun[1], 0)
        return path, self._place

    def needed(self) -> set[int]:
        """Inodes of the files that are not dealt with yet, and of the one that the place is in.

        Raises:
            OSError: the folder cannot be read.
        """
        inodes = [inode for _, inode, _ in self._files()]
        at = inodes.index(self._place.inode) if self._place.inode in inodes else 0
        return set(inodes[at:])

    def _files(self) -> list[tuple[Path, int, int]]:
        """The log and what it was rotated to, oldest first, with inode and size. The log itself is the last."""
        with os.scandir(self._path.parent) as entries:
            found = [(Path(e.path), e.stat()) for e in entries if e.name.startswith(self._path.name) and e.is_file()]
        found.sort(key=lambda item: (item[0] == self._path, item[1].st_mtime_ns))
        return [(path, stat.st_ino, stat.st_size) for path, stat in found]

    def _remembered(self) -> Place:
        try:
            found = json.loads(self._mark.read_text(encoding="utf-8"))
            return Place(int(found["inode"]), int(found["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Place(0, 0)


def _lines(data: bytes) -> Iterator[Line]:
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            logger.warning("a line of the access log is not JSON and is left out")
            continue
        if isinstance(line, dict):
            yield line
