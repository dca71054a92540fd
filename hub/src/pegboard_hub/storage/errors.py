"""Errors of the hub's database."""

from __future__ import annotations

from pegboard.core.errors import PegboardError


class SchemaTooNew(PegboardError):
    """The database was written by a newer Pegboard; this one would misread it, so nothing is started or touched."""

    def __init__(self, revision: str, newest: str) -> None:
        super().__init__(
            f"the database has schema {revision}, which this version does not know (its newest is {newest}): "
            "start the Pegboard version that wrote it, or restore a backup made with this one"
        )


class MigrationFailed(PegboardError):
    """The database could not be brought to the newest schema; it is as it was, and the hub does not start."""

    def __init__(self, found: str, wanted: str, why: str) -> None:
        super().__init__(
            f"the database could not be brought from schema {found} to {wanted} and is as it was: {why}. "
            "Mend that, or start the Pegboard version that ran before; the hub's log has the whole story"
        )


class DatabaseUnreadable(PegboardError):
    """A database file cannot be read, or is no database of Pegboard's."""


class StorageUnavailable(PegboardError):
    """The database's disk does not take what is asked, as when it is full. Nothing was written."""
