"""What `connect` remembers of each file it wrote: which parts of it are its own, and how the file was before."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pegboard.cli.exit import ExitStatus, Failure

FOLDER = "pegboard/connect"
KEPT = 5
"""Backups of one file; the oldest go."""


class Memory:
    """What is remembered of one configuration file."""

    def __init__(self, target: Path, variables: Mapping[str, str]) -> None:
        named = Path(variables.get("XDG_STATE_HOME", ""))
        state = named if named.is_absolute() else Path.home() / ".local" / "state"
        self._target = target
        self._folder = state / FOLDER / sha256(os.fsencode(target)).hexdigest()[:16]

    def made(self) -> frozenset[str]:
        """The parts of the file that we made; none where nothing is remembered, so that nothing is taken too much."""
        try:
            said = json.loads((self._folder / "made.json").read_text(encoding="utf-8"))
            return frozenset(said["made"]) if said["path"] == str(self._target) else frozenset()
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()

    def remember(self, made: Set[str]) -> None:
        """Keep which parts of the file are ours.

        Raises:
            Failure: nothing can be written there.
        """
        self._write("made.json", json.dumps({"path": str(self._target), "made": sorted(made)}).encode())

    def back_up(self, content: bytes) -> Path:
        """Keep what the file had; gives where.

        Raises:
            Failure: nothing can be written there, so the file is not touched.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        path = self._write(f"before-{stamp}-{self._target.name}", content)
        for old in sorted(self._folder.glob("before-*"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        except OSError as error:
            message = f"No backup can be kept in {self._folder}: {error.strerror}. Nothing was written."
            mend = "Make room, or name another place with XDG_STATE_HOME."
            raise Failure.here(ExitStatus.FAILED, "no_backup", message, mend) from error
        return path
