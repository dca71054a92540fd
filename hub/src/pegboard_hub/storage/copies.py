"""Copies of the database: taken while it is in use, and kept beside it before its schema changes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pegboard_hub.storage.schema import open_to_read

COPIES_KEPT = 3
"""Copies from before migrations that are kept; older ones are removed when a new one is made."""

_PAGES = 1000

Told = Callable[[int, int], None]
"""Called with how many pages are copied and how many there are."""


def copy_database(database: Path, copy: Path, told: Told = lambda _done, _all: None) -> None:
    """Write the database's state of one moment to the new file `copy` (mode 0600), by SQLite's online backup.

    Everything committed before the call is in it. Writers go on meanwhile.

    Raises:
        DatabaseUnreadable: the database cannot be read.
        OSError: the copy cannot be written, for want of space among others.
    """
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with open_to_read(database) as source:
            # A transaction that is held open pins the state: without it, every write starts the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            _copy_pages(source, copy, told)
        _sync(copy)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _copy_pages(source: sqlite3.Connection, copy: Path, told: Told) -> None:
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            source.backup(target, pages=_PAGES, progress=lambda _status, left, total: told(total - left, total))
            # One file that needs no other: the hub turns the write-ahead log on again when it opens it.
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise OSError(f"{copy} cannot be written: {error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_before_migration(database: Path, found: str, now: datetime | None = None) -> Path:
    """A copy of the database beside it, named with its revision and the time.

    Raises:
        DatabaseUnreadable: the database cannot be read.
        OSError: there is no room for it.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = database.with_name(f"{database.stem}-before-migration-{found}-{moment}.db")
    copy_database(database, copy)
    return copy


def forget_old_copies(database: Path) -> None:
    """Remove all but the newest copies from before migrations."""
    for old in copies(database)[:-COPIES_KEPT]:
        old.unlink(missing_ok=True)


def copies(database: Path) -> list[Path]:
    """The copies that are kept from before migrations, oldest first."""
    found = database.parent.glob(f"{database.stem}-before-migration-*.db")
    return sorted(found, key=lambda path: path.name.rpartition("-")[2])
