"""The server's own output, as its author reads it while it runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LOOK_S = 0.2
MOST = 1024 * 1024
"""Bytes of a look that are shown: more were nothing that anybody reads."""

_QUIET = ("uvicorn", "mcp.server", "pegboard.serve")
"""Loggers whose notes tell an author nothing; their warnings do."""

_NOTE = ("info", "debug")


async def show(path: Path, say: Callable[[str], None]) -> None:
    """Say what is appended to a log file from now on, until cancelled. It may be moved away and begun anew."""
    tail = _Tail(path)
    while True:
        await asyncio.sleep(LOOK_S)
        for row in tail.rows():
            for line in _lines(row):
                say(line)


class _Tail:
    """The end of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._size()
        self._begun = b""

    def rows(self) -> list[str]:
        """The lines since the last look that have ended."""
        size = self._size()
        if size < self._at:
            self._at, self._begun = 0, b""
        if size == self._at:
            return []
        with self._path.open("rb") as file:
            file.seek(max(self._at, size - MOST), os.SEEK_SET)
            read = self._begun + file.read(size - file.tell())
        self._at = size
        *ended, self._begun = read.split(b"\n")
        return [row.decode(errors="replace") for row in ended]

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _lines(row: str) -> Iterator[str]:
    try:
        said: Any = json.loads(row)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        if row.strip():
            yield f"  | {row}"
        return
    level, logger = str(said.get("level", "")), str(said.get("logger", ""))
    if level in _NOTE and logger.startswith(_QUIET):
        return
    request = f" [{said['request_id']}]" if said.get("request_id") else ""
    head = "" if level in _NOTE else f"{level}: "
    yield f"  | {head}{said.get('message', '')}{request}"
    for line in str(said.get("exception", "")).splitlines():
        yield f"  |   {line}"
