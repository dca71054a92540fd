"""Changing files that others read meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Change a folder's files while no other process does: the folder itself is locked (flock).

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(
    path: Path, text: str, mode: int = 0o644, *, owner: tuple[int, int] | None = None, sync: bool = False
) -> None:
    """Write `text` to `path` so that a reader sees the old content or the new, never a part; parents are created.

    `owner`, user and group id, has it from the first moment; by default it is who runs this. With `sync` it is on
    the disk before this returns, and survives a loss of power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, mode)
            if owner is not None:
                os.fchown(handle, *owner)
            file.write(text)
            if sync:
                file.flush()
                os.fsync(handle)
        Path(name).replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
