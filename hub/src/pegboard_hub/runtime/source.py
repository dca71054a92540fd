"""What a release is made from: a server's project and the local packages its lock file names."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pegboard.core.checks import parse_toml
from pegboard.core.errors import ConfigurationError
from pegboard_hub.packages.wheel import KIT

BUILD_BACKEND = "uv_build"
"""The one build backend of local packages: uv carries it, so that building them needs nothing from outside."""

LARGEST_TOML = 8 * 1024 * 1024
"""Bytes of a lock file, or of a pyproject.toml."""

_SKIPPED = {
    ".venv",
    "__pycache__",
    ".git",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "node_modules",
    "tests",
    "dist",
}


@dataclass(frozen=True, slots=True)
class SourceDistribution:
    """A locked package that has no wheel, so that somebody must run its build."""

    name: str
    url: str
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Source:
    """One server's project on disk.

    Attributes:
        project: its folder.
        packages: folders of the local packages to build: the project itself, unless it is none, and those it depends
            on by path.
        unbuilt: third-party packages without a wheel that it needs, on this machine or on another.
        kit: the version of the kit that it locks from an index; empty where the kit is a local package of it.
    """

    project: Path
    packages: tuple[Path, ...]
    unbuilt: tuple[SourceDistribution, ...] = ()
    kit: str = ""

    @classmethod
    def read(cls, project: Path, within: Path | None = None) -> Source:
        """The source in folder `project`; with `within`, of local packages in that folder alone.

        Raises:
            ConfigurationError: there is no project or lock file, a local package has another build backend, or a file
            is none of its own, or lies outside `within`.
        """
        lock = read_toml(project / "uv.lock", "make it with `uv lock` in the server's folder and commit it")
        local = {path for package in lock.get("package", []) if (path := _local_path(project, package)) is not None}
        if within is not None and (outside := [path for path in local if not path.is_relative_to(within.resolve())]):
            named = ", ".join(sorted(path.name for path in outside))
            mend = "submit with packages from an index alone, or put it into the project's folder"
            raise ConfigurationError("uv.lock", [f"names local packages outside the project: {named[:200]!a}", mend])
        others = sorted(local - {project.resolve(), project})
        packages = tuple(package for package in (project, *others) if _is_package(package))
        for package in packages:
            _check_backend(package)
        for folder in dict.fromkeys((project, *packages)):
            _check_files(folder)
        return cls(project, packages, tuple(_unbuilt(project, lock)), _kit(lock))

    def digest(self, *more: str) -> str:
        """SHA-256 over every file a release is made from, and over `more`, in hex."""
        total = hashlib.sha256()
        for text in more:
            total.update(f"{text}\0".encode())
        for package in dict.fromkeys((self.project, *self.packages)):
            for path in _files(package):
                total.update(f"{path.relative_to(package)}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
        return total.hexdigest()

    def copy(self, package: Path, target: Path, within: str = "") -> None:
        """Copy one of the packages, or the folder `within` it alone, into the new folder `target`, following no link.

        Raises:
            OSError: a file cannot be read or written, or has become a link since `read`.
        """
        for path in _files(package / within):
            copied = target / path.relative_to(package)
            copied.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as original, copied.open("wb") as copy:
                shutil.copyfileobj(original, copy)


def state_of(project: Path, secrets: Path) -> str:
    """A text that changes when the source in `project`, or a file in the folder of its server's secrets, does."""
    try:
        source = Source.read(project).digest()
    except (ConfigurationError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        source = f"{type(error).__name__}: {error}"  # a project can be wrong in ways nobody foresaw
    files = sorted(secrets.iterdir()) if secrets.is_dir() else []
    return f"{source} {[(path.name, path.lstat().st_mtime_ns) for path in files]}"


def _local_path(project: Path, package: dict[str, Any]) -> Path | None:
    source = package.get("source", {})
    place = source.get("editable") or source.get("directory") or source.get("virtual")
    return (project / place).resolve() if place else None


def _kit(lock: dict[str, Any]) -> str:
    found = (
        each for each in lock.get("package", []) if each.get("name") == KIT and "registry" in each.get("source", {})
    )
    return next((str(each["version"]) for each in found), "")


def _unbuilt(project: Path, lock: dict[str, Any]) -> Iterator[SourceDistribution]:
    packages = {package["name"]: package for package in lock.get("package", [])}
    own = next((name for name, package in packages.items() if _local_path(project, package) == project), None)
    for name in sorted(_needed(packages, own)):
        package = packages[name]
        if "sdist" in package and "wheels" not in package and _local_path(project, package) is None:
            sdist, version = package["sdist"], str(package.get("version", ""))
            digest = sdist.get("hash", "").removeprefix("sha256:")
            yield SourceDistribution(name, sdist.get("url", ""), digest, version)


def _needed(packages: dict[str, Any], start: str | None) -> set[str]:
    """Names of what a package needs to run, at any depth; development groups are not among them."""
    found: set[str] = set()
    waiting = [start] if start else []
    while waiting:
        name = waiting.pop()
        if name not in found and name in packages:
            found.add(name)
            extras = packages[name].get("optional-dependencies", {}).values()
            waiting += [each["name"] for group in (packages[name].get("dependencies", []), *extras) for each in group]
    return found


def _is_package(folder: Path) -> bool:
    """Whether a project is a package; one that only says what it needs is none (`[tool.uv] package = false`)."""
    tool = read_toml(folder / "pyproject.toml", "a server is a uv project").get("tool", {})
    return tool.get("uv", {}).get("package") is not False


def _check_backend(package: Path) -> None:
    system = read_toml(package / "pyproject.toml", "a server is a uv project").get("build-system", {})
    if system.get("build-backend") != BUILD_BACKEND or "backend-path" in system:
        raise ConfigurationError(
            str(package / "pyproject.toml"),
            [
                f"build-system.build-backend is {system.get('build-backend', 'not set')!r}",
                f"set it to {BUILD_BACKEND!r}: another would run the author's code outside the sandbox",
            ],
        )


def _check_files(package: Path) -> None:
    """Refuse what a package must not hold: a link would bring in a file that its author may not read."""
    for path in _files(package):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ConfigurationError(str(path), ["is a link or no file", "put the file itself there"])


def read_toml(path: Path, mend: str) -> dict[str, Any]:
    """A file of an author's, in a time that grows with its length.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_TOML:
            raise ConfigurationError(str(path), [f"is larger than {LARGEST_TOML // 2**20} MiB"])
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}", mend]) from error
    except ValueError as error:
        raise ConfigurationError(str(path), [f"not valid TOML: {error}"]) from error


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        # A link to a folder is not walked into: it counts as a file, which it is not.
        names += [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and name not in names)
        names = [name for name in names if name not in _SKIPPED]
        yield from (Path(parent) / name for name in sorted(names) if not name.endswith(".pyc"))
