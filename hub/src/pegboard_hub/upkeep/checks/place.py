"""Where the instance lies: its folder, and the disks below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.looking import LEAST_FREE
from pegboard_hub.storage.copies import copies
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, size, warning, well

FEW_FREE = 1024 * 1024 * 1024
LEAST_INODES = 1000
FEW_INODES_SHARE = 0.02
LARGE_LOGS = 1024 * 1024 * 1024
CLOSED = ("data", "keys", "secrets")
"""Folders that nobody but their owner may enter."""


def home(facts: Facts) -> Iterator[Finding]:
    """The folder: whose, how open, how deep."""
    root = facts.home.root
    if not facts.exists:
        yield from _no_home(root)
        return
    found = root.stat()
    if found.st_uid not in (os.geteuid(), 0) or not os.access(root, os.W_OK | os.X_OK):
        yield must_mend(
            f"{root} belongs to user {found.st_uid}, and this is user {os.geteuid()}",
            f"run Pegboard as that user, or as root; or give the folder away: chown -R {os.geteuid()} {root}",
        )
        return
    closed = [path for name in CLOSED if (path := root / name).is_dir()]
    loose = [path for path in (root, *closed) if path.stat().st_mode & _forbidden(path, root)]
    for path in loose:
        mode = "go-w" if path == root else "700"
        yield must_mend(
            f"{path} is open to other users (mode {path.stat().st_mode & 0o777:o})", f"chmod {mode} {path}"
        )
    if not loose:
        elsewhere = "" if facts.home.run.parent == root else f"; its path is long, so sockets are in {facts.home.run}"
        yield well(f"{root} belongs to user {found.st_uid}, mode {found.st_mode & 0o777:o}{elsewhere}")


def _forbidden(path: Path, root: Path) -> int:
    return 0o022 if path == root else 0o077


def _no_home(root: Path) -> Iterator[Finding]:
    above = next(parent for parent in root.parents if parent.exists())
    if root.exists() or not os.access(above, os.W_OK | os.X_OK):
        why = "is a file" if root.exists() else f"cannot be made: {above} cannot be written by user {os.geteuid()}"
        yield must_mend(f"{root} {why}", "choose a folder you may write to, with --home or PEGBOARD_HOME")
    else:
        yield well(f"there is no instance at {root} yet; `pegboard up` makes one")


def disk(facts: Facts) -> Iterator[Finding]:
    """Room and inodes, once for each file system that the instance lies on."""
    seen: dict[int, list[Path]] = {}
    root = facts.home.root
    for path in (root, facts.home.data, root / "spool", root / "log", facts.home.run):
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        seen.setdefault(there.stat().st_dev, []).append(there)
    for paths in seen.values():
        yield _file_system(paths[0])


def _file_system(path: Path) -> Finding:
    if procfs.is_read_only(path):
        return must_mend(
            f"the disk at {path} takes no writes: it is mounted read-only, or the kernel shut it after an error",
            "stop the instance (pegboard down), mend the disk (dmesg and fsck tell), mount it again, start it: what "
            "waits is delivered then",
        )
    found = os.statvfs(path)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    share = inodes / found.f_files if found.f_files else 1.0
    told = f"{size(free)} free at {path}" + (f", {inodes:,} inodes" if found.f_files else "")
    mend = (
        "make room: `pegboard doctor` says what the instance takes; logs can be removed, spools and database cannot"
    )
    if free < LEAST_FREE or (found.f_files and inodes < LEAST_INODES):
        return must_mend(f"the disk is full, or nearly: {told}", f"{mend}. What waits is delivered by itself then")
    if free < FEW_FREE or share < FEW_INODES_SHARE:
        return warning(f"the disk fills up: {told}", mend)
    return well(told)


def usage(facts: Facts) -> Iterator[Finding]:
    """What the instance takes of the disk."""
    if not facts.exists:
        return
    own = facts.home
    wal = own.database.with_name(own.database.name + "-wal")
    parts = {
        "database": _bytes([own.database]),
        "its write-ahead log": _bytes([wal]),
        "copies from before migrations": _bytes(copies(own.database)),
        "logs": _tree(own.log("hub").parent),
        "spools": _tree(own.root / "spool"),
        "what servers keep": _tree(own.root / "state"),
        "releases": _tree(own.root / "releases"),
    }
    told = ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
    if parts["logs"] > LARGE_LOGS:
        yield warning(f"it takes: {told}", f"rotate or remove the logs in {own.log('hub').parent}")
    else:
        yield well(f"it takes: {told or 'nothing yet'}")


def _bytes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def _tree(folder: Path) -> int:
    """Bytes of all files below a folder; what cannot be looked at counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(parent) / name).st_size
            except OSError:
                continue
    return total
