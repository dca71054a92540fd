"""Removing a folder that somebody else could write: however deep it is, however closed, and following no link."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that is possible. Nobody may write there meanwhile.

    `shutil.rmtree` goes down a call for each level: a server that makes a thousand folders within one another would
    have it give up (RecursionError), and so outlive its end, or keep a whole instance from its start. Here what lies
    deeper is moved up first, so that nothing is ever more than two levels deep.
    """
    with suppress(OSError):
        if folder.is_symlink():
            folder.unlink()
            return
        with _opened(str(folder)) as top:
            _empty(top)
        folder.rmdir()


def _empty(top: int) -> None:
    """Empty the folder behind a descriptor."""
    moved = 0
    mark = secrets.token_hex(8)  # a name that its author did not know
    while folders := [name for name in os.listdir(top) if not _unlinked(name, top)]:
        before = moved
        for name in folders:
            with _opened(name, top) as inner:
                for each in [each for each in os.listdir(inner) if not _unlinked(each, inner)]:  # noqa: PTH208
                    with _opened(each, inner):  # one that is closed to its owner could not be moved
                        os.rename(each, f"{mark}-{moved}", src_dir_fd=inner, dst_dir_fd=top)
                    moved += 1
            os.rmdir(name, dir_fd=top)
        if moved == before:
            break


def _unlinked(name: str, folder: int) -> bool:
    """Whether a name was of a file, a link or whatever is no folder, and is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):  # the second is another system's word for the first
        return False
    return True


@contextmanager
def _opened(name: str, parent: int | None = None) -> Iterator[int]:
    """A folder's descriptor; one that is closed to its owner is opened first."""
    try:
        found = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)  # a folder: nothing is below a link of that name that was opened
        found = os.open(name, _FOLDER, dir_fd=parent)
    try:
        with suppress(OSError):
            os.fchmod(found, 0o700)
        yield found
    finally:
        os.close(found)
