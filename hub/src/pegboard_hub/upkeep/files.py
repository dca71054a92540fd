"""Reading files that others may have put there, and a folder to work in that does not outlive the work."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def working_folder(parent: Path, work: str) -> Iterator[Path]:
    """A new folder (mode 0700) in `parent`, which is removed at the end unless it was moved elsewhere.

    Keys and records lie in it, so what a killed run of the same work left behind is removed too: a folder that is in
    use is locked by whoever uses it.

    Raises:
        OSError: none can be made there.
    """
    prefix = f".pegboard-{work}-"
    for left in parent.glob(f"{prefix}*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):  # in use, another user's, or gone by now
        lock = _locked(folder)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(folder)
        finally:
            os.close(lock)


def _locked(folder: Path) -> int:
    """A folder's descriptor that holds its lock; closed, or with the process, it lets go of it.

    Raises:
        OSError: it is no folder, or somebody else holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
