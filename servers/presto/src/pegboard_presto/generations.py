"""The open tables as they are between two changes: a file that nobody changes any more, and the engine that reads it.

A change is made in a copy, which becomes the next generation. Queries under way read on in theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from pegboard_presto import own
from pegboard_presto.build import OPEN_FILE
from pegboard_presto.engine import Engine
from pegboard_presto.limits import Limits
from pegboard_presto.own import Note, OwnFile
from pegboard_presto.tables import TABLES, Table

NEVER = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Generation:
    """An engine, and what it has.

    Attributes:
        tables: every table that callers may read, by name.
        notes: who wrote which of people's own.
        file: descriptor of the engine's file, which has no name any more; -1 where nobody changes it.
        stamp: of people's own tables as they were kept.
    """

    engine: Engine
    tables: Mapping[str, Table]
    notes: Mapping[str, Note]
    file: int = -1
    stamp: tuple[int, int, int] = NEVER

    def copy_to(self, path: Path) -> None:
        """Copy the file, which has no name, to `path`.

        Raises:
            OSError: there is no room.
        """
        with os.fdopen(os.dup(self.file), "rb") as source, path.open("xb") as target:
            source.seek(0)
            shutil.copyfileobj(source, target, 1024 * 1024)

    def end(self) -> None:
        """Let go of engine and file; a query under way keeps what it needs until it ends."""
        self.engine.close()
        with suppress(OSError):
            os.close(self.file)


def built(limits: Limits, kept: OwnFile, folder: Path) -> Generation:
    """The first generation of a process: the sample tables and what was kept of people's own, and beside it in
    `folder` the file with ads revenue.

    Raises:
        RuntimeError: the tables could not be built; the child's last words are in it.
    """
    stamp = kept.stamp()
    try:
        notes = own.notes_in(kept.path)
    except duckdb.Error as error:
        raise RuntimeError(own.unreadable(kept.path, error)) from error
    build_apart(folder, kept.path if notes else None)
    return opened(folder / OPEN_FILE, limits, notes, stamp)


def build_apart(folder: Path, own_file: Path | None) -> None:
    """Build the database files in a child process, which takes the memory for it along.

    Raises:
        RuntimeError: they could not be built; the child's last words are in it.
    """
    command = [sys.executable, "-m", "pegboard_presto.build", str(folder), *([str(own_file)] if own_file else [])]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the tables could not be built: {done.stderr.strip().splitlines()[-1:]}")


def opened(path: Path, limits: Limits, notes: Sequence[Note], stamp: tuple[int, int, int] = NEVER) -> Generation:
    """Read the file at `path` from now on. It may be removed.

    Raises:
        duckdb.Error: it is no database, or lacks a table of `notes`.
    """
    engine = Engine(path, limits)
    tables = {**TABLES, **{note.table: engine.look(partial(own.describe, note)) for note in notes}}
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return Generation(engine, tables, {note.table: note for note in notes}, file, stamp)
