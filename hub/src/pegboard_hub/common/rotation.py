"""Old parts of a log beside it: `x.log.1` is the newest, a bounded number is kept."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from pathlib import Path

KEPT = 4
"""How many old parts of a log are kept."""


def make_room(path: Path) -> Path:
    """Move each old part one number up where it must be, so that number 1 is free; that free place.

    Raises:
        OSError: a part cannot be renamed.
    """
    free = next(number for number in count(1) if not _part(path, number).exists())
    for number in range(free, 1, -1):
        _part(path, number - 1).rename(_part(path, number))
    return _part(path, 1)


def prune(path: Path, kept: int = KEPT, needed: Collection[int] = ()) -> None:
    """Delete the old parts past the newest `kept`, but none whose inode is `needed` still.

    Raises:
        OSError: a part cannot be deleted.
    """
    for part in path.parent.glob(f"{path.name}.*"):
        number = part.name.removeprefix(f"{path.name}.")
        if number.isdecimal() and int(number) > kept and part.stat().st_ino not in needed:
            part.unlink()


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
