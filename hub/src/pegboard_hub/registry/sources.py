"""Where the registry's facts come from: the operator's grants file and the declaration of each release."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError, unreadable
from pegboard.core.grants import Grant, GrantsFile, read_grants
from pegboard.core.names import ServerName
from pegboard.core.rates import Limits, LimitsSection
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.registry.model import Release, Snapshot

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


def fingerprint(path: Path | str) -> Fingerprint | None:
    """The file's fingerprint, or None when there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - twice a second for thousands of files: a Path each would cost more
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


def read_grants_file(path: Path, *, names_some: bool = False) -> GrantsFile:
    """Read the operator's grants.

    Args:
        path: of the file.
        names_some: whether it names servers as last taken over. A file with nothing in it is then no word of the
            operator's but what a shell or a full disk left of it, and withdraws nobody.

    Raises:
        ConfigurationError: the file cannot be read, or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), [f"cannot be read: {unreadable(error)}"]) from error
    if names_some and not text.strip():
        raise ConfigurationError(
            str(path), ["has nothing in it", "to withdraw every server leave a comment in it that says so"]
        )
    return read_grants(text, str(path))


class Declarations:
    """The declaration files of the servers; a file is read again only when it changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, tuple[Fingerprint | None, Found]] = {}
        self._paths: dict[str, str] = {}

    def fingerprints(self, names: Iterable[str]) -> tuple[Fingerprint | None, ...]:
        """The state of the files of these servers, to compare with a later one."""
        return tuple(fingerprint(self._paths.get(name) or str(self._path(name))) for name in names)

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
        path = self._home.declaration(ServerName.parse(name))
        self._paths[name] = str(path)
        return path


class Looked(NamedTuple):
    """What a look at the sources found.

    Attributes:
        seen: the state of the grants file.
        fault: why it is not the one in force; empty when it is.
        states: the state of each declaration of the servers that it names.
        due: servers whose entry or declaration is not the one that was last taken over.
        gone: servers that it names no more.
        news: whether anything is not as it was at the last look.
    """

    seen: Fingerprint | None
    fault: str
    states: Mapping[str, Fingerprint | None]
    due: tuple[str, ...]
    gone: tuple[str, ...]
    news: bool


class _Taken(NamedTuple):
    """What was last taken over of a server; `version` tells whether one with a conflict has changed since."""

    grant: Grant
    state: Fingerprint | None
    version: int | None


class Sources:
    """The operator's grants file and the declarations of its servers, and how much of them was taken over.

    Attributes:
        file: the last good grants file; None before there was one.
        declarations: of the servers that it names.
        taken_over: whether anything was taken over yet.
    """

    def __init__(self, home: Home, grants: Path) -> None:
        self.file: GrantsFile | None = None
        self.declarations = Declarations(home)
        self.taken_over = False
        self._grants = grants
        self._seen: Fingerprint | None = None
        self._fault = ""
        self._taken: dict[str, _Taken] = {}
        self._states: tuple[Fingerprint | None, ...] | None = None
        self._conflicts: dict[str, tuple[str, ...]] = {}
        self._unusable: dict[str, str] = {}

    async def look(self, snapshot: Snapshot) -> Looked | None:
        """What is there now; None while somebody is writing the grants file."""
        seen = await asyncio.to_thread(fingerprint, self._grants)
        reread = seen != self._seen or not self.taken_over
        fault = self._fault
        if reread:
            if not await settled(self._grants, seen):
                return None
            fault = ""
            try:
                names_some = any(server.source for server in snapshot.servers.values())
                self.file = await asyncio.to_thread(read_grants_file, self._grants, names_some=names_some)
            except ConfigurationError as error:
                fault = str(error)
        named = self.file.servers if self.file else {}
        states = await asyncio.to_thread(self.declarations.fingerprints, tuple(named))
        if not reread and states == self._states and not self._moved(snapshot):
            return Looked(seen, fault, {}, (), (), news=False)
        found = dict(zip(named, states, strict=True))
        due = tuple(name for name, grant in named.items() if self._is_due(name, grant, found[name], snapshot))
        gone = tuple(name for name in self._taken if name not in named)
        return Looked(seen, fault, found, due, gone, reread or bool(due or gone))

    async def follow(self) -> str:
        """Know the grants file as it is, for a hub that takes nothing over; gives its fault, empty where it has none.

        The next look is a first one: everything is due.
        """
        self.taken_over = False
        self._taken, self._conflicts, self._unusable = {}, {}, {}
        seen = await asyncio.to_thread(fingerprint, self._grants)
        if seen != self._seen and await settled(self._grants, seen):
            self._seen, self._fault = seen, ""
            try:
                names_some = bool(self.file and self.file.servers)
                self.file = await asyncio.to_thread(read_grants_file, self._grants, names_some=names_some)
            except ConfigurationError as error:
                self._fault = str(error)
        return self._fault

    @property
    def limits(self) -> Limits:
        """What the edge holds callers to; before there was a good file, what holds where it says nothing."""
        return (self.file.limits if self.file else LimitsSection()).compiled()

    @property
    def conflicting(self) -> tuple[str, ...]:
        """Servers of which file and registry say something else, since the registry changed it."""
        named = self.file.servers if self.file else {}
        return tuple(sorted(name for name in self._conflicts if name in named))

    @property
    def conflicts(self) -> tuple[str, ...]:
        """What of file and registry is not the same since the registry changed it, a line each."""
        return tuple(line for name in self.conflicting for line in self._conflicts[name])

    def problems(self, looked: Looked, conflicts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """What is not taken over after a look, a line each.

        Args:
            looked: the look.
            conflicts: of the servers that were due.
        """
        named = self.file.servers if self.file else {}
        for name in looked.due:
            self._conflicts.pop(name, None)
            self._unusable.pop(name, None)
            if named[name].source and (problem := self.declarations.read(name).problem):
                self._unusable[name] = problem
        self._conflicts |= conflicts
        return (*(self._unusable[name] for name in sorted(self._unusable) if name in named), *self.conflicts)

    def took(self, looked: Looked, snapshot: Snapshot) -> None:
        """Take note that what a look found was taken over, and is what `snapshot` says."""
        assert self.file is not None or not looked.due  # noqa: S101
        self._seen, self._fault, self.taken_over = looked.seen, looked.fault, True
        if looked.news:
            self._states = tuple(looked.states.values())
        for name in looked.gone:
            self._taken.pop(name, None)
        for name in looked.due:
            version = snapshot.servers[name].version if name in self._conflicts else None
            self._taken[name] = _Taken(self.file.servers[name], looked.states[name], version)  # type: ignore[union-attr]

    def _moved(self, snapshot: Snapshot) -> bool:
        """Whether a server with a conflict was changed since, or one that was taken over is not there."""
        taken = ((name, self._taken.get(name)) for name in self._conflicts)
        return any(one and one.version not in (None, snapshot.servers[name].version) for name, one in taken)

    def _is_due(self, name: str, grant: Grant, state: Fingerprint | None, snapshot: Snapshot) -> bool:
        taken = self._taken.get(name)
        if taken is None or (taken.grant, taken.state) != (grant, state):
            return True
        return taken.version is not None and snapshot.servers[name].version != taken.version


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
