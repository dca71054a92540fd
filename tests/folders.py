"""Where tests keep what a hub or a server writes."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
ENOUGH = 2**30
"""Free bytes in memory from which on it is used: a container may have far less."""


def new_folder(prefix: str = "pgb") -> Path:
    """A new folder for one home, in memory where there is room; what is left of it goes when this process ends.

    Its path is short, because sockets lie under it (108 bytes at most). A hub syncs what it
    writes, and a test that loses power has nothing to keep: on a disk, opening a hub is mostly waiting.
    """
    found = Path(tempfile.mkdtemp(prefix=prefix, dir=_parent()))
    atexit.register(_remove, found, os.getpid())
    return found


def _remove(folder: Path, made_by: int) -> None:
    if os.getpid() == made_by:  # a child that was forked has its parent's list
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _parent() -> Path:
    if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH:
        return MEMORY
    return Path("/tmp")  # noqa: S108
