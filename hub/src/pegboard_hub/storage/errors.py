"""Errors of the hub's database."""

from __future__ import annotations

from pegboard.core.errors import PegboardError


class SchemaTooNew(PegboardError):
    """The database was written by a newer Pegboard; this one would misread it, so the hub does not start."""

    def __init__(self, revision: str, newest: str) -> None:
        super().__init__(
            f"the database has schema {revision}, which this version does not know (its newest is {newest}): "
            "start the Pegboard version that wrote it, or restore a backup made with this one"
        )
