"""Which schema a database file has, told without the hub, without Alembic, and without changing the file.

Revisions are four digits that count up: the newest that this version knows is the last file of `migrations/versions`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pegboard_hub.storage.errors import DatabaseUnreadable, SchemaTooNew

VERSIONS = Path(__file__).parent / "migrations" / "versions"
BUSY_S = 5.0


def revisions() -> list[str]:
    """Every revision this version knows, oldest first."""
    return sorted(path.name[:4] for path in VERSIONS.glob("[0-9][0-9][0-9][0-9]_*.py"))


class Age(StrEnum):
    """How a database's schema stands to this version's."""

    NONE = "none"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class Schema:
    """A database's schema.

    Attributes:
        found: its revision; empty when there is no database yet, or nothing in it.
        newest: the newest revision this version knows.
    """

    found: str
    newest: str

    @property
    def age(self) -> Age:
        """How it stands to this version's."""
        if not self.found:
            return Age.NONE
        if self.found == self.newest:
            return Age.CURRENT
        return Age.OLDER if self.found in revisions() else Age.NEWER

    def check(self) -> None:
        """Refuse a schema that this version would misread.

        Raises:
            SchemaTooNew: it is not known here.
        """
        if self.age is Age.NEWER:
            raise SchemaTooNew(self.found, self.newest)


def schema_of(database: Path) -> Schema:
    """The schema of the SQLite file `database`, which need not exist.

    Raises:
        DatabaseUnreadable: it cannot be read, or is no database.
    """
    newest = revisions()[-1]
    if not database.exists() or database.stat().st_size == 0:
        return Schema("", newest)
    with open_to_read(database) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return Schema(str(row[0]) if row else "", newest)


@contextmanager
def open_to_read(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, also beside a running hub; transactions are the caller's to begin.

    Raises:
        DatabaseUnreadable: the file cannot be opened or read, or is no database.
    """
    # Without a write-ahead log nobody has the file open, and `immutable` keeps SQLite from making one.
    quiet = "" if database.with_name(database.name + "-wal").exists() else "&immutable=1"
    try:
        connection = sqlite3.connect(
            f"{database.absolute().as_uri()}?mode=ro{quiet}", uri=True, isolation_level=None, timeout=BUSY_S
        )
        with contextlib.closing(connection):
            connection.execute("PRAGMA trusted_schema=OFF")
            yield connection
    except sqlite3.Error as error:
        raise DatabaseUnreadable(f"the database {database} cannot be read: {error}") from error
