"""What is known to be wrong with packages: advisories that the operator keeps on the machine that builds.

They are documents of the OSV schema, as osv.dev publishes them for PyPI and npm, and OpenSSF for malicious packages.
Nobody is asked over the network what a company's servers are made of.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from pegboard.core.check.facts import Advisories
from pegboard.core.errors import ConfigurationError

SETTING: Final = "PEGBOARD_ADVISORIES"
"""Folders of them at any depth, as files or in zip archives, or such archives; with `:` between their paths."""


def kept_advisories(names: Collection[str]) -> Advisories:
    """The operator's advisories of these packages; none where they keep none. It takes seconds for large archives.

    Raises:
        ConfigurationError: they cannot be read, or a place has none: who names it relies on what should be there.
    """
    places = [Path(each) for each in os.environ.get(SETTING, "").split(os.pathsep) if each]
    try:
        return Advisories((content for place in places for content in _documents(place)), names)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(SETTING, [f"cannot be read: {error}"]) from error


def _documents(place: Path) -> Iterator[bytes]:
    found = False
    for path in sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]:
        for content in _in(path, named=path == place):
            found = True
            yield content
    if not found:
        raise FileNotFoundError(f"{place} has no advisories")


def _in(path: Path, *, named: bool) -> Iterator[bytes]:
    if path.suffix == ".json":
        yield path.read_bytes()
    elif path.suffix == ".zip" or named:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    yield archive.read(name)
