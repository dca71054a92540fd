"""What a project is made of, and what is known of that: of its own lock file, and of its backend's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pegboard.core.check.dependencies import LOCK, NPM_LOCK, parse_lock
from pegboard.core.check.facts import Known, npm_facts
from pegboard.core.check.npm import NPM, NpmPackage, npm_packages
from pegboard.core.errors import ConfigurationError
from pegboard.core.publishing import ArtifactFile
from pegboard_hub.packages.advisories import kept_advisories
from pegboard_hub.packages.facts import look_up
from pegboard_hub.runtime.backends import BACKEND
from pegboard_hub.runtime.confined import OutsideFailed


@dataclass(frozen=True, slots=True)
class Locks:
    """The lock files of a project.

    Attributes:
        python: of uv: its own, and its backend's where it has one.
        npm: of its backend; None without.
    """

    python: tuple[bytes, ...]
    npm: bytes | None = None

    @classmethod
    def of(cls, project: Path, backend: str) -> Locks:
        """Those of the project in a folder; `backend` is the name of its backend's, empty without."""
        python = [project / LOCK, *([project / backend / LOCK] if backend else [])]
        npm = project / backend / NPM_LOCK
        return cls(
            tuple(each.read_bytes() for each in python if each.is_file()),
            npm.read_bytes() if backend and npm.is_file() else None,
        )

    def names(self) -> set[str]:
        """Of all packages in them."""
        return {each.name for lock in self.python for each in parse_lock(lock)} | {
            each.name for each in npm_packages(self.npm)
        }


async def known_of(locks: Locks, indexes: Iterable[str], environment: Path) -> Known:
    """What the operator's indexes and advisories say: withdrawn versions, malicious ones, licences.

    Raises:
        OutsideFailed: the advisories cannot be read, so that nobody knows.
    """
    allowed, found = tuple(indexes), Known()
    try:
        advisories = await asyncio.to_thread(kept_advisories, locks.names())
    except ConfigurationError as error:
        raise OutsideFailed(f"the platform team's advisories: {'; '.join(error.problems)}") from error
    for lock in locks.python:
        found |= await look_up(lock, allowed, advisories, environment)
    return found | npm_facts(locks.npm, advisories)


def components(files: Iterable[ArtifactFile], npm: bytes | None) -> Iterator[dict[str, Any]]:
    """A backend's packages as CycloneDX has them, for a document that has the proxy's."""
    for file in files:
        if file.name.startswith(BACKEND) and file.version:
            name = file.name.removeprefix(BACKEND).partition("-")[0].replace("_", "-").lower()
            yield _component(f"pkg:pypi/{name}@{file.version}", name, file.version)
    for each in npm_packages(npm):
        yield _of_npm(each)


def _of_npm(package: NpmPackage) -> dict[str, Any]:
    name = package.name.removeprefix(NPM)
    purl = f"pkg:npm/{name.replace('@', '%40', 1)}@{package.version}"
    said = _component(purl, name, package.version)
    return {**said, "licenses": [{"license": {"name": package.licence}}]} if package.licence else said


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
