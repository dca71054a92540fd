"""What a process said last, for whoever wonders why it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pegboard_hub.runtime.mending import LOGGER

END: Final = 64 * 1024
"""Bytes of a log's end that are read."""

LONGEST: Final = 500
"""Characters of what is told."""

GRAVE: Final = frozenset({"error", "critical"})

OUTPUT: Final = frozenset({"", "stdout", "stderr"})
"""Loggers of what a process printed: a traceback, or why it gives up. What others note in passing explains no end."""


class Said(NamedTuple):
    """One line of a log."""

    logger: str
    level: str
    words: str


def last_words(log: Path) -> str:
    """The last error that the last process logged, or the last line that it printed; empty where there is neither.

    Args:
        log: of a replica; processes of it that ended before have their lines there, too.
    """
    printed = ""
    for said in _of_last_process(_backwards(log)):
        if said.level in GRAVE:
            return said.words[:LONGEST]
        if said.logger in OUTPUT:
            printed = printed or said.words
    return printed[:LONGEST]


def one_line(text: str) -> str:
    """An author's words as a line of text, whatever is in them."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:LONGEST])


def _backwards(log: Path) -> Iterator[Said]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return
    yield from (_read(line) for line in reversed(lines) if line.strip())


def _of_last_process(lines: Iterator[Said]) -> Iterator[Said]:
    """Up to our own word of the end before; the newest line may be our word of the last one's."""
    for number, said in enumerate(lines):
        if said.logger != LOGGER:
            yield said
        elif number:
            return


def _read(line: str) -> Said:
    """A line in the kit's form or in any other; all of it is the author's word."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "message" not in said:
        return Said("", "", line.strip())
    exception = str(said.get("exception") or "").strip().splitlines()
    words = ": ".join([str(said["message"]), *exception[-1:]])
    return Said(str(said.get("logger") or ""), str(said.get("level") or ""), words)
