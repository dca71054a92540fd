"""How much there is in a folder that an author's code may write, without being led elsewhere or kept for long."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Bytes on the disk, and how many files and folders."""

    bytes: int
    entries: int


def usage(folder: Path, most_entries: int) -> Usage:
    """What there is in a folder. Counting ends beyond `most_entries`, and where folders lie too deep to be
    named, which counts as one entry too many.
    """
    used, entries, left = 0, 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                for each in found:
                    entries += 1
                    with suppress(OSError):  # it was just removed
                        state = each.stat(follow_symlinks=False)
                        used += state.st_blocks * 512
                        if each.is_dir(follow_symlinks=False):
                            left.append(each.path)
                    if entries > most_entries:
                        return Usage(used, entries)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return Usage(used, most_entries + 1)
    return Usage(used, entries)


def nameless(folder: Path, pids: Iterable[int]) -> int:
    """Bytes on the disk of `folder` of files that have no name any more, and that one of these processes still has.

    They are in no folder, and take their room for as long as somebody has them open, or mapped.
    """
    device, found = folder.stat().st_dev, dict[int, int]()
    for pid in pids:
        for held in ("fd", "map_files"):
            with suppress(OSError), os.scandir(f"/proc/{pid}/{held}") as files:  # it ended, or is not ours to see
                for each in files:
                    with suppress(OSError):
                        state = each.stat()
                        if state.st_nlink == 0 and state.st_dev == device:
                            found[state.st_ino] = state.st_blocks * 512
    return sum(found.values())
