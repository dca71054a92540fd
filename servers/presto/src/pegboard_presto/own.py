"""People's own tables where they are kept: one file, replaced as a whole, so that it is old or new and never between.

The file lies in the folder that the platform keeps for this server over restarts and releases (`PEGBOARD_STATE`). The
server never opens it for callers: at the start its tables are copied beside the open ones (`build.py`), and a change
is made in a copy of those (`changing.py`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from pegboard_presto.tables import Column, Table

FILE = "own.duckdb"
_NEW = "own.duckdb.new"
_LOCK = "own.lock"
_NOTES = "_notes"
"""The one table of the file that is not a person's: names of theirs begin with a letter."""

LOCK_S = 10.0
"""Seconds to wait for another process of this server that is changing them."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "96MiB",
    "threads": 1,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@dataclass(frozen=True, slots=True)
class Note:
    """Who wrote a table, and when (milliseconds since the epoch)."""

    table: str
    by: str
    at_ms: int


class Busy(Exception):
    """Another process of this server is changing the tables, and has not ended in time."""


class OwnFile:
    """The file with people's own tables, in the server's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / FILE

    def stamp(self) -> tuple[int, int, int]:
        """What differs whenever the file was replaced; zeros where there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold what a process of this server holds while it changes the tables; to be used in a worker thread.

        Raises:
            Busy: another has it.
            OSError: the folder cannot be written.
        """
        descriptor = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Busy from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def write(self, source: Path, notes: Iterable[Note]) -> None:
        """Put the tables that `notes` name, as they are in the database `source`, in the place of the file's.

        On return they are on the disk; a process that is killed before leaves the old file as it was.

        Raises:
            duckdb.Error, OSError: it cannot be written; the old file is as it was.
        """
        new = self._folder / _NEW
        self._remove(new)  # of a process that was killed
        try:
            with duckdb.connect(new, config=_SETTINGS) as database:
                database.execute(f"ATTACH '{_quoted(source)}' AS source (READ_ONLY)")
                database.execute(f"CREATE TABLE {_NOTES} (name VARCHAR, writer VARCHAR, at_ms BIGINT)")
                for note in notes:
                    database.execute(f'CREATE TABLE "{note.table}" AS SELECT * FROM source."{note.table}"')  # noqa: S608 - a checked name
                    database.execute(f"INSERT INTO {_NOTES} VALUES (?, ?, ?)", [note.table, note.by, note.at_ms])  # noqa: S608
                database.execute("DETACH source")
                database.execute("CHECKPOINT")
            _sync(new)
            new.replace(self.path)
            _sync(self._folder)
        except BaseException:
            self._remove(new)
            raise

    def _remove(self, new: Path) -> None:
        for left in (new, new.with_name(new.name + ".wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def load(database: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Copy people's own tables, and the notes on them, into the database of the open ones.

    Raises:
        duckdb.Error: the file cannot be read.
    """
    database.execute(f"ATTACH '{_quoted(file)}' AS own (READ_ONLY)")
    for (name,) in database.execute(f"SELECT name FROM own.{_NOTES}").fetchall():  # noqa: S608 - our own name
        database.execute(f'CREATE TABLE "{name}" AS SELECT * FROM own."{name}"')  # noqa: S608 - a checked name
    database.execute("DETACH own")


def notes_in(file: Path) -> list[Note]:
    """Who wrote which table of the file; none where there is no file.

    Raises:
        duckdb.Error: it cannot be read.
    """
    if not file.exists():
        return []
    with duckdb.connect(file, read_only=True, config=_SETTINGS) as database:
        return [Note(*row) for row in database.execute(f"SELECT name, writer, at_ms FROM {_NOTES}").fetchall()]  # noqa: S608 - our own name


def unreadable(file: Path, error: Exception) -> str:
    """What an operator is told whose server does not start: nobody's tables are thrown away unasked."""
    why = str(error).splitlines()[0]
    mend = f"restore {file} from a backup, or move it away to start without them"
    return f"people's own tables cannot be read ({why}): {mend}"


def describe(note: Note, database: duckdb.DuckDBPyConnection) -> Table:
    """One of people's own tables as callers see it."""
    columns = database.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [note.table]
    ).fetchall()
    counted = database.execute(f'SELECT count(*) FROM "{note.table}"').fetchone()  # noqa: S608 - a checked name
    day = datetime.fromtimestamp(note.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Table(
        note.table,
        f"Written by {note.by}, {day}.",
        int(counted[0]) if counted else 0,
        tuple(Column(name, kind, "") for name, kind in columns),
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
