"""Making the folders of a home, and finding one for its sockets whose path is short enough."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from pegboard.core.errors import ConfigurationError

SOCKET_PATH_LIMIT: Final = 100
"""Bytes a socket's path may have here: the kernel's 107 less room for a temporary name beside it."""

SOCKET_FOLDER_LIMIT: Final = 32
"""Characters of the folder that a server's sockets are in."""

_LONGEST_SOCKET: Final = "/s/" + "x" * SOCKET_FOLDER_LIMIT + "/xxxxxxxx-99.sock"


def fingerprint(root: Path) -> str:
    """Twelve characters that name a home on this machine."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:12]


def make(folder: Path, mode: int) -> None:
    """Create a folder with exactly this mode; one that exists is left as it is."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_dir():
            return  # another process of this instance was faster
        raise
    folder.chmod(mode)


def run_folder(root: Path) -> Path:
    """The folder for sockets of a home, made where it is missing: `root/run`, or a short one that it leads to.

    Raises:
        ConfigurationError: the short one is somebody else's.
        OSError: it cannot be made.
    """
    run = root / "run"
    if len(os.fsencode(run)) + len(_LONGEST_SOCKET) <= SOCKET_PATH_LIMIT:
        make(run, 0o700)
        return run
    short = run.readlink() if run.is_symlink() else _short_base() / f"pegboard-{fingerprint(root)}"
    _make_private(short)
    with contextlib.suppress(FileExistsError):
        run.symlink_to(short)
    return short


def _short_base() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) if runtime and len(runtime) <= 40 and os.access(runtime, os.W_OK) else Path("/tmp")  # noqa: S108 - the folder below is checked


def _make_private(folder: Path) -> None:
    """Create a folder in a place where others may write too, and refuse one that somebody else put there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    ours = found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022
    if not stat.S_ISDIR(found.st_mode) or not ours:
        raise ConfigurationError(
            str(folder),
            [
                "somebody else owns or may change this folder, so no socket goes there",
                "remove it, or use a shorter PEGBOARD_HOME",
            ],
        )
