"""Reading Envoy's access log from where it was left, over restarts and rotation."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pegboard_hub.runtime.home import replace_file

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
        """The file to read next: a rotated one until its end, then the log itself from its beginning."""
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return None, self._place
        place = self._place
        if current.st_ino == place.inode:
            # A log that was cut to nothing in place starts again.
            return self._path, place if current.st_size >= place.offset else Place(place.inode, 0)
        old = next((path for path, inode in self._rotated() if inode == place.inode), None)
        if old is not None and old.stat().st_size > place.offset:
            return old, place
        return self._path, Place(current.st_ino, 0)

    def _rotated(self) -> Iterator[tuple[Path, int]]:
        with os.scandir(self._path.parent) as entries:
            for entry in entries:
                if entry.name.startswith(self._path.name) and entry.is_file():
                    yield Path(entry.path), entry.inode()

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
