"""Advisories that an operator points at, read from disk."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from pegboard.core.check.facts import Advisories


def read_advisories(place: Path | None, names: Collection[str] | None = None) -> Advisories:
    """The advisories in a folder (at any depth) or a zip archive, as osv.dev publishes them; none without a place.

    Args:
        place: the folder or archive.
        names: packages of which something is to be known; None: all.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    return Advisories(_documents(place) if place is not None else (), names)


def _documents(place: Path) -> Iterator[bytes]:
    if place.is_dir():
        for path in sorted(place.rglob("*.json")):
            yield path.read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield archive.read(name)
