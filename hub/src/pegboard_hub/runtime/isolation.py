"""How far a server is kept from everything that is not its own: chosen by trying, told as it is.

| mode       | when                              | a server has                                                    |
|------------|-----------------------------------|-----------------------------------------------------------------|
| bubblewrap | bwrap is installed and works      | its own view of files, processes and network; as root, own user |
| user       | else, when Pegboard runs as root  | its own user, and no network where the kernel allows            |
| off        | else                              | nothing of its own: it can read all that the operator can       |
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Resources
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.launching import NO_CORE, Launch
from pegboard_hub.runtime.reach import Reach, inside_networks, places_of
from pegboard_hub.runtime.sandbox import INNER_LAUNCH, View, bwrap_arguments
from pegboard_hub.runtime.users import EGRESS, TRUSTED, User, Users, is_root

SETTING = "PEGBOARD_ISOLATION"
INSTALL = "install bubblewrap (apt-get install bubblewrap)"

MAX_PROCESSES = 1024
"""Processes and threads one server's user may have: room for worker threads, none for a fork bomb."""

MEMORY_HEADROOM_MB = 1024
"""RLIMIT_DATA is this plus four times the manifest's memory: it counts address space that is reserved and never used
(thread stacks, arenas), so it only stops a runaway. What is used is watched by the supervisor."""

_PROBE_TIMEOUT_S = 10
_PROBE = "import os, sys; [os.listdir(folder) for folder in sys.argv[1:]]"


Trials = dict[str, list[str]]
"""A command for each trusted part that works only where the part can run: what it needs is there for its user."""


class Mode(StrEnum):
    """See the table above."""

    BUBBLEWRAP = "bubblewrap"
    USER = "user"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What this machine can do for this instance.

    Attributes:
        mode: how servers are kept apart.
        why: what that means here and how to better it; shown to operators.
        python: the interpreter that environments are made from; servers can run it.
        users: whom each part runs as; None when all are the operator.
        own_users: the trusted parts (hub, edge, prober) that run as their own user.
        bwrap: the program, in mode bubblewrap.
        network_closed: true when a server without granted egress has no network.
        networks: inside, which names that are granted may lead to.
    """

    mode: Mode
    why: str
    python: Path
    users: Users | None = None
    own_users: frozenset[str] = frozenset()
    bwrap: Path | None = None
    network_closed: bool = False
    networks: tuple[str, ...] = ()

    def user(self, role: str) -> User | None:
        """Whom a role (`hub`, `edge`, `prober`, or a server's `namespace/name`) runs as; None is the operator."""
        if self.users is None or (role in TRUSTED and role not in self.own_users):
            return None
        return self.users.by_role[role]

    def including(self, server: str) -> Isolation:
        """The same isolation with one more server, which has its own user where servers have."""
        return self if self.users is None else replace(self, users=self.users.including(server))

    def trusted(self, role: str, command: list[str]) -> list[str]:
        """The command that starts hub, edge or prober."""
        return Launch(user=self.user(role)).command(command)

    def confined(
        self,
        server: str,
        view: View,
        resources: Resources,
        folder: Path,
        command: list[str],
        more_limits: Mapping[str, int] = MappingProxyType({}),
        groups: tuple[Path, ...] = (),
        nice: int = 0,
    ) -> list[str]:
        """The command that starts an author's code.

        Args:
            server: `namespace/name`.
            view: what it may see, where the mode can limit that.
            resources: its limits.
            folder: its working folder.
            command: what to run.
            more_limits: names and values of setrlimit(2) beside those that follow from `resources`.
            groups: files of control groups to join.
            nice: how much lower its priority is.

        Raises:
            ConfigurationError: what it reaches is no `host:port`.
        """
        user = self.user(server)
        limits = {**_limits(resources, own_user=user is not None), **more_limits}
        if self.bwrap is None:
            closed = self.network_closed and not view.network and not view.egress
            launch = Launch(user, limits, closed, umask=0o007, folder=folder, groups=groups, nice=nice)
            return launch.command(command)
        reach = self._reach(server, view)
        inner = Launch(user, limits, umask=0o007, folder=folder, tied=False, ways=reach)
        inside = inner.command(command, python=self.python, script=INNER_LAUNCH)
        sandbox = bwrap_arguments(self.bwrap, view, becomes_user=user is not None)
        return Launch(groups=groups, nice=nice, relays=reach).command([*sandbox, *inside])

    def _reach(self, server: str, view: View) -> Reach | None:
        """What it reaches through the relay beside its sandbox; None where it reaches nothing."""
        if not view.egress:
            return None
        user = self.users.by_role[EGRESS] if self.users is not None else None
        return Reach(places_of(view.egress), self.networks, (("server", server),), user)


def choose(
    setting: str, home: Home, servers: Iterable[str], edge_program: Path, read_by_hub: Iterable[Path] = ()
) -> Isolation:
    """Find by trying what this machine can do.

    Args:
        setting: auto, bubblewrap, user or off.
        home: of the instance; as root it must be reachable by the users of its parts.
        servers: `namespace/name` of each server.
        edge_program: Envoy, which the edge's user must be able to run.
        read_by_hub: the operator's files that the hub's user must be able to read.

    Raises:
        ConfigurationError: the setting is unknown, or the mode it asks for does not work here, or the operator
            names a network that is none.
    """
    if setting not in ("auto", *Mode):
        raise ConfigurationError(SETTING, [f"{setting!r} is unknown: use auto, {', '.join(Mode)}"])
    networks, users = inside_networks(), Users.of(home.instance, servers) if is_root() else None
    if users is not None:
        home.root.chmod(0o711)  # other users may pass through, and list nothing
    trials = _trials(edge_program, read_by_hub)
    faults: list[str] = []
    for attempt in (_bubblewrap, _user):
        if setting not in ("auto", attempt.__name__.lstrip("_")):
            continue
        found = attempt(home, users, trials)
        if isinstance(found, Isolation):
            return replace(found, networks=networks)
        faults.append(found)
    if setting not in ("auto", Mode.OFF):
        raise ConfigurationError(f"{SETTING}={setting}", faults)
    reason = "; ".join(faults) if faults else f"{SETTING}=off"
    return Isolation(
        Mode.OFF,
        f"servers can read and change everything that {'root' if users else 'the operator'} can: {reason}",
        _own_python(),
    )


def _bubblewrap(home: Home, users: Users | None, trials: Trials) -> Isolation | str:
    program = shutil.which("bwrap")
    if program is None:
        return f"bubblewrap is not installed: {INSTALL}"
    python = _own_python()
    view = View(readable=(python.parent.parent, home.root / "public"), writable=())
    user = users.edge if users else None
    inside = Launch(user, tied=False).command(_probe(python, home.root / "public"), python, INNER_LAUNCH)
    arguments = bwrap_arguments(Path(program), view, becomes_user=user is not None)
    if fault := _fault(Launch().command([*arguments, *inside])):
        return f"bubblewrap does not work here ({fault})"
    own, note = _own_users(home, users, trials)
    why = "each server has its own view of files, processes and network" + (" and its own user" if users else "")
    return Isolation(Mode.BUBBLEWRAP, f"{why}{note}", python, users, own, Path(program), network_closed=True)


def _user(home: Home, users: Users | None, trials: Trials) -> Isolation | str:
    if users is None:
        return "own users need Pegboard to run as root"
    probe = users.edge
    python = next((p for p in _pythons() if not _fault(Launch(probe).command(_probe(p)))), None)
    if python is None:
        return f"no Python can be run by other users: {sys.executable} is under a folder closed to them"
    if fault := _fault(Launch(probe).command(_probe(python, home.root / "public"))):
        return f"other users cannot reach {home.root} ({fault}): put it outside folders closed to them"
    closed = not _fault(Launch(probe, close_network=True).command(_probe(python)))
    own, note = _own_users(home, users, trials)
    why = "each server has its own user" + (
        ", and no network unless egress is granted, which then is all of it" if closed else ""
    )
    mend = f"; it still sees what this machine shows to everybody: {INSTALL} for more"
    return Isolation(Mode.USER, f"{why}{mend}{note}", python, users, own, network_closed=closed)


def _trials(edge_program: Path, read_by_hub: Iterable[Path]) -> Trials:
    reads = "; ".join(f"open({str(path)!r}).close()" for path in read_by_hub)
    return {
        "hub": [sys.executable, "-I", "-c", f"import pegboard_hub, pegboard.core; {reads}"],
        "edge": [str(edge_program), "--version"],
        "prober": [sys.executable, "-I", "-c", "import pegboard_hub.health.prober"],
    }


def _own_users(home: Home, users: Users | None, trials: Trials) -> tuple[frozenset[str], str]:
    """Which trusted parts can run as their own user, and a note on those that cannot."""
    if users is None:
        return frozenset(), ""
    reachable = _probe(Path(sys.executable), home.root / "public")
    able = {
        role
        for role, command in trials.items()
        if not _fault(Launch(users.by_role[role]).command(command))
        and (role == "edge" or not _fault(Launch(users.by_role[role]).command(reachable)))
    }
    missing = _enumerated([role for role in trials if role not in able])
    note = f"; still root: {missing}, whose programs or files other users cannot reach" if missing else ""
    return frozenset(able), note


def _enumerated(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def _limits(resources: Resources, own_user: bool) -> dict[str, int]:
    data = (resources.memory_mb * 4 + MEMORY_HEADROOM_MB) * 1024 * 1024
    limits = {**NO_CORE, "RLIMIT_NOFILE": resources.open_files, "RLIMIT_DATA": data}
    limits["RLIMIT_FSIZE"] = resources.disk_mb * 2**20  # of one file; of all together the supervisor sees
    # The kernel counts processes per user: where users are shared, a limit would stop the neighbours.
    return {**limits, "RLIMIT_NPROC": MAX_PROCESSES} if own_user else limits


def _own_python() -> Path:
    base = getattr(sys, "_base_executable", sys.executable)
    return Path(base).resolve()


def _pythons() -> list[Path]:
    versions = [f"python3.{minor}" for minor in range(sys.version_info.minor, 10, -1)]
    found = [shutil.which(name, path="/usr/local/bin:/usr/bin") for name in versions]
    return [_own_python(), *(Path(name) for name in found if name)]


def _probe(python: Path, *folders: Path) -> list[str]:
    return [str(python), "-I", "-S", "-c", _PROBE, *map(str, folders)]


def _fault(command: list[str]) -> str:
    """Why a trial run failed, in a line; empty when it went well."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, env={}, cwd="/", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"exit status {done.returncode}"
