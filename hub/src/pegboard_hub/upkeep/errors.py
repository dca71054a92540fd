"""Errors of backup and restore."""

from __future__ import annotations

from pathlib import Path

from pegboard.core.errors import PegboardError


class BackupFailed(PegboardError):
    """No backup was made; nothing was left behind."""


class BackupRefused(PegboardError):
    """A file is no backup that can be restored here; nothing was changed."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is not restored, and nothing was changed: {why}")


class RestoreFailed(PegboardError):
    """The backup is good, and it could not be put where it was asked to; what was there is there."""


def in_words(error: OSError) -> str:
    """What the system refused, and at which file."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
