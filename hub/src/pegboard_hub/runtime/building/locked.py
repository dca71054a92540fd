"""Which files of a lock file this machine would install: each is one wheel, known by its digest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from pegboard.core.check.dependencies import is_of
from pegboard.core.errors import ConfigurationError
from pegboard.core.publishing import ArtifactFile
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.source import read_toml

KIT = "pegboard"
"""The package that comes from the platform itself, whatever the lock file says of where it is."""

FILES = {"pypi.org": ("files.pythonhosted.org",)}
"""Hosts where an index keeps its files, beside its own; one that keeps them elsewhere has that host named too."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Lock:
    """A project's `uv.lock`. Its addresses are its author's: only of the operator's indexes is anything fetched."""

    def __init__(self, path: Path, indexes: Iterable[str], kit: str = KIT) -> None:
        """Read it.

        Args:
            path: the file.
            indexes: the package indexes that it may name.
            kit: the package that comes from the platform, wherever it says that it is; empty: none.

        Raises:
            ReleaseFailed: it cannot be read, or names packages of elsewhere.
        """
        self._kit = kit
        self._indexes = tuple(index.rstrip("/") for index in indexes)
        try:
            self._packages: list[dict[str, Any]] = read_toml(path, "run `uv lock`")["package"]
        except (ConfigurationError, KeyError) as error:
            raise ReleaseFailed(f"uv.lock cannot be read: {error}") from error
        if elsewhere := [name for package in self._packages if (name := self._elsewhere(package))]:
            named = ", ".join(sorted(elsewhere)[:5])
            known = ", ".join(self._indexes) or "none"
            raise ReleaseFailed(
                f"uv.lock has packages that are of no index which may be used: {named}; lock them of {known}, "
                "or have the operator name another under publishing.indexes in the grants file"
            )

    def _elsewhere(self, package: dict[str, Any]) -> str:
        """The package, where it is neither the project's own, nor the kit, nor of an index that may be used."""
        name, source = str(package.get("name", "")), package.get("source", {})
        # Of two kinds at once, uv takes one and whoever looks for the other believes it.
        kind = next(iter(source)) if len(source) == 1 else ""
        urls = [str(file.get("url", "")) for file in (*package.get("wheels", []), package.get("sdist", {}))]
        place = str(source.get("registry") or source.get("git") or source.get("url") or source.get("path") or "")
        local = kind in ("editable", "directory", "virtual") and not any(urls)
        if local or (kind == "registry" and name == self._kit):
            return ""
        ours = kind == "registry" and place.rstrip("/") in self._indexes
        if ours and all(self._may_fetch(url) for url in urls if url):
            return ""
        return f"{name[:64]!a} ({place[:120]!a})"

    def _may_fetch(self, url: str) -> bool:
        """Whether a file lies where one of the indexes keeps its files."""
        asked = urlsplit(url)
        for index in self._indexes:
            known = urlsplit(index)
            hosts = {known.netloc, *FILES.get(known.netloc, ())}
            if asked.netloc in hosts and asked.scheme in {known.scheme, "https"}:
                return True
        return False

    def find(self, name: str, version: str) -> dict[str, Any]:
        """What it says of a package.

        Raises:
            ReleaseFailed: nothing.
        """
        for package in self._packages:
            if package.get("name") == name and package.get("version", version) == version:
                return package
        raise ReleaseFailed(f"uv.lock has no {name} {version}; run `uv lock` and submit again")

    def kit(self) -> str:
        """The version of the kit that it locks from an index; empty where the project has its own, or none."""
        for package in self._packages:
            if package.get("name") == KIT and "registry" in package.get("source", {}):
                return str(package.get("version", ""))
        return ""


def wheel_of(package: dict[str, Any], python: str) -> ArtifactFile | None:
    """The best wheel of a locked package for this machine and Python `major.minor`; None where it has none.

    Raises:
        ReleaseFailed: it has one without a digest, not from an index, or of another package.
    """
    order = _order(python)
    best: tuple[int, dict[str, Any], str] | None = None
    for wheel in package.get("wheels", []):
        url = str(wheel.get("url", ""))
        file_name = unquote(urlsplit(url).path.rpartition("/")[2])
        places = [order[tag] for tag in _tags_of(file_name) if tag in order]
        if places and (best is None or min(places) < best[0]):
            best = min(places), wheel, file_name
    if best is None:
        return None
    _, wheel, file_name = best
    name, version = str(package.get("name", "")), str(package.get("version", ""))
    # uv may choose another of them, so what it says of names is not about this one.
    if not is_of(file_name, name, version):
        locked_as = f"uv.lock has {file_name[:100]!a} as {name[:100]} {version[:50]}"
        raise ReleaseFailed(f"{locked_as}; run `uv lock`, and leave the file as it comes")
    digest = _DIGEST.fullmatch(str(wheel.get("hash", "")))
    if digest is None or urlsplit(str(wheel["url"])).scheme not in ("https", "http"):
        raise ReleaseFailed(f"uv.lock gives no digest or no address for {file_name}; run `uv lock` and submit again")
    return ArtifactFile(
        name=file_name,
        version=str(package.get("version", "")),
        sha256=digest[1],
        size=int(wheel.get("size", 0)),
        origin="index",
        url=str(wheel["url"]),
    )


@cache
def _order(python: str) -> dict[Tag, int]:
    """The place of each tag that fits this machine, the best first: some thousands, for every package."""
    return {tag: place for place, tag in enumerate(_tags(python))}


def _tags(python: str) -> Iterator[Tag]:
    major, minor = (int(part) for part in python.split("."))
    platforms = list(platform_tags())
    yield from cpython_tags((major, minor), platforms=platforms)
    yield from compatible_tags((major, minor), interpreter=f"cp{major}{minor}", platforms=platforms)


def _tags_of(file_name: str) -> Iterable[Tag]:
    try:
        return parse_wheel_filename(file_name)[3]
    except InvalidWheelFilename:
        return ()
