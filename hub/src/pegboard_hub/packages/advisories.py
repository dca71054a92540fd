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
"""A folder of them at any depth, or zip archives beside one another with `:` between their paths."""


def kept_advisories(names: Collection[str]) -> Advisories:
    """The operator's advisories of these packages; none where they keep none. It takes seconds for large archives.

    Raises:
        ConfigurationError: they cannot be read.
    """
    places = [Path(each) for each in os.environ.get(SETTING, "").split(os.pathsep) if each]
    try:
        return Advisories((content for place in places for content in _documents(place)), names)
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(SETTING, [f"cannot be read: {error}"]) from error


def _documents(place: Path) -> Iterator[bytes]:
    if place.is_dir():
        for path in sorted(place.rglob("*.json")):
            yield path.read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield archive.read(name)
