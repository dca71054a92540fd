"""Wheels of the kit by their digest, in the home. Those of earlier Pegboards stay, for the releases made of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.packages.wheel import KIT, kit_wheel

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NEWEST = "newest.json"


@dataclass(frozen=True, slots=True)
class KeptWheel:
    """A wheel on disk.

    Attributes:
        path: of the file, whose name is the wheel's.
    """

    version: str
    digest: str
    path: Path


class Shelf:
    """The wheels of the kit that an instance has had.

    Args:
        home: where they are kept, under `packages/`.
    """

    def __init__(self, home: Home) -> None:
        self._folder = home.packages

    def keep_current(self) -> KeptWheel:
        """The wheel of the kit that runs now, put here unless it is.

        Raises:
            ConfigurationError: the kit is not installed as a distribution.
            OSError: it cannot be written.
        """
        wheel = kit_wheel()
        path = self._put(wheel.digest, wheel.file_name, wheel.content)
        self._note(wheel.version, wheel.digest)
        return KeptWheel(wheel.version, wheel.digest, path)

    def by_digest(self, digest: str) -> KeptWheel | None:
        """A wheel by its digest; None where it is not here, or is no longer what it was."""
        if not _DIGEST.fullmatch(digest):
            return None
        found = sorted((self._folder / digest).glob("*.whl"))
        if len(found) != 1 or hashlib.sha256(found[0].read_bytes()).hexdigest() != digest:
            return None
        return KeptWheel(found[0].name.split("-")[1], digest, found[0])

    def of_version(self, version: str) -> KeptWheel | None:
        """The newest wheel of a version, which is what a lock file asks for; None where there never was one."""
        digest = self._newest().get(version)
        return self.by_digest(digest) if digest else None

    def newest(self) -> tuple[KeptWheel, ...]:
        """The newest wheel of each version."""
        return tuple(kept for version in self.versions() if (kept := self.of_version(version)) is not None)

    def take(self, version: str, digest: str, file_name: str, content: bytes) -> None:
        """Keep a wheel of another instance's shelf, as its newest of that version.

        Raises:
            ValueError: it is not what its digest says.
            OSError: it cannot be written.
        """
        if hashlib.sha256(content).hexdigest() != digest or "/" in file_name:
            raise ValueError(f"{file_name[:100]!r} is not {digest[:12]}")
        self._put(digest, file_name, content)
        self._note(version, digest)

    @staticmethod
    def metadata(kept: KeptWheel) -> bytes:
        """The core metadata of a wheel."""
        with zipfile.ZipFile(kept.path) as archive:
            return archive.read(f"{KIT}-{kept.version}.dist-info/METADATA")

    def versions(self) -> tuple[str, ...]:
        """The versions there are."""
        return tuple(sorted(self._newest()))

    def wheels(self) -> dict[str, Path]:
        """Every wheel's file by its digest."""
        found = (self.by_digest(each.name) for each in sorted(self._folder.glob("*")) if each.is_dir())
        return {kept.digest: kept.path for kept in found if kept is not None}

    def _put(self, digest: str, file_name: str, content: bytes) -> Path:
        path = self._folder / digest / file_name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(path)
        return path

    def _note(self, version: str, digest: str) -> None:
        newest = self._newest()
        if newest.get(version) != digest:
            replace_file(self._folder / _NEWEST, json.dumps({**newest, version: digest}) + "\n")

    def _newest(self) -> Mapping[str, str]:
        try:
            said = json.loads((self._folder / _NEWEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def platform_wheels(home: Home) -> dict[str, Path]:
    """The platform's own wheels by digest, the one that runs now among them.

    Raises:
        ConfigurationError: the kit is not installed as a distribution.
        OSError: its wheel cannot be written.
    """
    shelf = Shelf(home)
    shelf.keep_current()
    return shelf.wheels()
