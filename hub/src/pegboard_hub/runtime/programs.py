"""What runs of a server: its code on disk, with what it was pinned to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration


@dataclass(frozen=True, slots=True)
class Program:
    """One release on this machine, ready to be started.

    Attributes:
        release: digest of what it declares.
        source: digest of everything it was made from, its code included.
        python: the interpreter of its environment.
        environment: folder of that.
        project: folder of manifest and policies.
        pinned: file with its declaration.
    """

    server: ServerName
    release: str
    source: str
    declaration: Declaration
    python: Path
    environment: Path
    project: Path
    pinned: Path

    @property
    def manifest(self) -> Manifest:
        """What its author says of it."""
        return self.declaration.manifest
