"""Where the registry's facts come from: the operator's grants file and the declaration of each release."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import GrantsFile, read_grants
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.registry.model import Release

SETTLE_S = 0.1
"""Seconds a grants file must stay as it is before it is believed."""


class Fingerprint(NamedTuple):
    """Enough of a file's state to notice any replacement of it."""

    changed_ns: int
    size: int
    inode: int


class Found(NamedTuple):
    """What a declaration file held: a release, nothing, or a fault."""

    release: Release | None
    problem: str = ""


def fingerprint(path: Path) -> Fingerprint | None:
    """The file's fingerprint, or None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return Fingerprint(stat.st_mtime_ns, stat.st_size, stat.st_ino)


async def settled(path: Path, seen: Fingerprint | None) -> bool:
    """Whether a grants file has stopped changing since `seen`; what an editor is still writing may be half of it.

    Half a grants file can be a good one that grants less, down to an empty one that withdraws every server.
    """
    if seen is None or time.time() - seen.changed_ns / 1e9 > SETTLE_S:
        return True
    await asyncio.sleep(SETTLE_S)
    return await asyncio.to_thread(fingerprint, path) == seen


def read_grants_file(path: Path) -> GrantsFile:
    """Read the operator's grants.

    Raises:
        ConfigurationError: the file cannot be read, or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error}"]) from error
    return read_grants(text, str(path))


class Declarations:
    """The declaration files of the servers; a file is read again only when it changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, tuple[Fingerprint | None, Found]] = {}

    def fingerprints(self, names: Iterable[str]) -> tuple[Fingerprint | None, ...]:
        """The state of the files of these servers, to compare with a later one."""
        return tuple(fingerprint(self._path(name)) for name in names)

    def read(self, name: str) -> Found:
        """What the declaration of one server says now."""
        path = self._path(name)
        state = fingerprint(path)
        known = self._known.get(name)
        if known is None or known[0] != state:
            known = (state, Found(None) if state is None else _read(path, ServerName.parse(name)))
            self._known[name] = known
        return known[1]

    def _path(self, name: str) -> Path:
        return self._home.declaration(ServerName.parse(name))


def _read(path: Path, name: ServerName) -> Found:
    try:
        declaration = Declaration.model_validate_json(path.read_bytes())
        if problems := declaration_problems(declaration):
            raise ConfigurationError(str(path), problems)
        release = Release.of(declaration)
        missing = sorted({tool.policy for tool in release.tools} - release.policies.keys())
        if missing:
            raise ConfigurationError(str(path), [f"tools name policies that are not there: {', '.join(missing)}"])
        if release.manifest.name != name.name:
            raise ConfigurationError(str(path), [f"it declares {release.manifest.name}, but is granted as {name}"])
        _ = release.governed  # parses the policies: a broken one must not become the current release
    except (OSError, ValidationError, ConfigurationError) as error:
        return Found(None, f"{name}: its declaration cannot be used: {_brief(error)}")
    return Found(release)


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, fault['loc'])) or 'declaration.json'}: {fault['msg']}"
    return str(error)
