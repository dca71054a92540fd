"""Looking for a secret in everything that a home holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def holding(home: Path, secrets: Iterable[bytes]) -> set[Path]:
    """The files of a home that hold one of these, but for releases, which are the authors'; relative to the home.

    What is there is replaced and taken away meanwhile: a file that has just gone holds nothing.
    """
    wanted = list(secrets)
    found = set()
    for path in files(home):
        with suppress(FileNotFoundError):
            text = path.read_bytes()
            if any(secret in text for secret in wanted):
                found.add(path.relative_to(home))
    return found


def files(home: Path) -> Iterator[Path]:
    """The files of a home, but for releases."""
    return (path for path in home.rglob("*") if path.is_file() and "releases" not in path.relative_to(home).parts)
