"""Reading files that others may have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST_FILE_BYTES = 64 * 1024 * 1024
"""The largest file that is read whole; a segment of a spool has some 4 MiB."""


def read_own(path: Path, owner: int) -> bytes | None:
    """A plain file's content; None of a link, a pipe, another's file, one that is gone or too large.

    A server writes its spool itself: a link there would bring into the backup, and back into the server's own folder,
    what only the operator can read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return None
    try:
        found = os.fstat(descriptor)
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == owner
        if not plain or found.st_size > MOST_FILE_BYTES:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_FILE_BYTES)
    finally:
        os.close(descriptor)
