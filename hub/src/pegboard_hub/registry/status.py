"""How servers are doing: what the supervisor says of its processes, with what the prober saw of them.

| the supervisor says          | the prober                             | so the server is       |
|------------------------------|----------------------------------------|------------------------|
| anything but `live`          | whatever it says                       | as the supervisor says |
| `live`, or it is silent      | `live`, `down` or `flapping`           | as the prober says     |
| `live`, or it is silent      | has not looked at it for `LOOKED_MS`   | `unknown`              |
| `live`, or it is silent      | is silent                              | `unknown`              |
| `live`                       | has yet to begin, or to look at it     | `live`                 |
| it is silent                 | has yet to begin, or to look at it     | `unknown`              |

Of a server whose releases are submitted its runtimes say it, replica by replica (`publishing`): whoever connects to
one that is asleep would wake it.

The hub only reads both: nobody's answer waits for a look at a server. Old news is never told as health: a supervisor
or prober that is silent makes `unknown`, with since when.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.sources import Fingerprint, fingerprint

log = logging.getLogger(__name__)

ServerState = Literal[
    "live", "starting", "down", "flapping", "unknown", "not deployed", "preparing", "failed", "not started"
]
"""Beyond what a process can be: `not started`: just granted, and the supervisor has not taken it on yet; `preparing`:
it makes its release; `failed`: that, or its start, went wrong and is not tried again by itself; `flapping`: it comes
and goes (`health.damping`)."""

ProbedState = Literal["unknown", "live", "down", "flapping"]
"""What the prober can say of a server; `unknown` before its first look."""

LOOKED_MS = 150_000
"""Milliseconds for which the prober's word on a server counts after its last look; it looks at each within 60 s."""

LOOK_AGAIN_S = 0.5
"""How often the status file is looked at, in seconds."""

KEPT_S = 5.0
"""Seconds for which what was read in the background serves; after that whoever asks reads by themselves."""

SILENT_SUPERVISOR = "the supervisor does not report"
SILENT_PROBER = "the prober has not reported since"
NOT_LOOKED = "the prober has not looked at it since"
FAULTY = "it could not be deployed or started; the platform team sees why in `pegboard status`"


class Isolation(BaseModel):
    """How servers are kept apart from each other and from the hub."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: str
    why: str = ""


_NO_REPORT = Isolation(mode="unknown", why="the supervisor does not report")


class Process(BaseModel):
    """One process under the supervisor. `since` is in seconds since the epoch."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    state: Literal["starting", "live", "down"]
    since: float = 0
    restarts: int = 0
    last_error: str = ""


class _StatusFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    at: float
    isolation: Isolation
    servers: dict[str, str] | None = None
    faults: dict[str, str] = {}
    processes: tuple[Process, ...] = ()
    edge_faults: tuple[str, ...] = ()


_UNCALLED = frozenset({Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.RETIRED})
_BEGINNING: frozenset[ServerState] = frozenset({"not started", "preparing", "failed"})


class Health(NamedTuple):
    """How one server is doing, and since when. Times are milliseconds since the epoch; None where nobody says.

    Attributes:
        why: why it is not live, in words that anybody signed in may read; empty when it is.
        checked_at_ms: when the prober last looked at it.
    """

    state: ServerState
    since_ms: int | None = None
    why: str = ""
    checked_at_ms: int | None = None


class Probed(NamedTuple):
    """What the prober says of one server. Times are milliseconds since the epoch."""

    state: ProbedState
    since_ms: int
    why: str
    checked_at_ms: int


@dataclass(frozen=True, slots=True)
class ProberWord:
    """What the prober says of all servers.

    Attributes:
        standing: `awaited`: the hub has just started, and it has not reported yet; `silent`: its last report is too
            old to believe anything it said.
        heard_at_ms: when it last reported, or when the hub began to wait; milliseconds since the epoch.
        servers: its word on each server it looked at.
    """

    standing: Literal["awaited", "reporting", "silent"] = "awaited"
    heard_at_ms: int = 0
    servers: Mapping[str, Probed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """The supervisor's and the prober's word at one moment; with `known` false there is none of the supervisor.

    Attributes:
        started_with: the source of each server that was taken on; None where it is not said.
        faults: servers that do not run as they should, each with why.
        prober: what the prober says.
        at_ms: the moment, in milliseconds since the epoch.
        edge_faults: what the edge was told and does not use, a line each.
        submitted: what runtimes say of servers whose releases are submitted.
    """

    known: bool = False
    isolation: Isolation = _NO_REPORT
    processes: dict[str, Process] = field(default_factory=dict)
    started_with: dict[str, str] | None = None
    faults: dict[str, str] = field(default_factory=dict)
    prober: ProberWord = ProberWord()
    at_ms: int = 0
    edge_faults: tuple[str, ...] = ()
    submitted: Mapping[str, Health] = field(default_factory=dict)

    def state(self, server: RegisteredServer) -> ServerState:
        """How one registered server is doing, in a word."""
        return self.health(server).state

    def health(self, server: RegisteredServer) -> Health:
        """How one registered server is doing, by the table above."""
        if server.submitted:
            return self.submitted.get(str(server.name), Health("not deployed"))
        own = self._supervised(server)
        if own.state not in ("live", "unknown") or self.prober.standing == "awaited":
            return own
        if self.prober.standing == "silent":
            return Health("unknown", self.prober.heard_at_ms, SILENT_PROBER)
        probed = self.prober.servers.get(str(server.name))
        if probed is None or probed.state == "unknown":
            return own
        if self.at_ms - probed.checked_at_ms > LOOKED_MS:
            return Health("unknown", probed.checked_at_ms, NOT_LOOKED, probed.checked_at_ms)
        # A process that was started again between two looks is live since then.
        later = own.since_ms if probed.state == "live" and own.since_ms else 0
        return Health(probed.state, max(probed.since_ms, later), probed.why, probed.checked_at_ms)

    def standing(self, server: RegisteredServer) -> Health:
        """How one registered server is doing for whoever would call it, as lists and search tell it everywhere.

        One that its lifecycle keeps from being called is not deployed, whatever still runs; but how far a first
        release is on its way, is told. Whether it is stopped is told beside it.
        """
        found = self.health(server)
        if server.lifecycle not in _UNCALLED:
            return found
        begins = server.lifecycle is Lifecycle.IN_REVIEW and not server.released and bool(server.source)
        return found if begins and found.state in _BEGINNING else Health("not deployed")

    def process_state(self, name: str) -> ServerState:
        """How the process of that name is doing; one the supervisor does not name is down."""
        if not self.known:
            return "unknown"
        process = self.processes.get(name)
        return process.state if process else "down"

    def _supervised(self, server: RegisteredServer) -> Health:
        """How it is doing as the supervisor says."""
        name = str(server.name)
        process = self.processes.get(name)
        since_ms = int(process.since * 1000) or None if process else None
        if not server.source or (server.release is None and server.waiting is not None):
            return Health("not deployed")  # nobody says where its code is, or its release waits for reviews
        if self.started_with is not None and name not in self.started_with:
            return Health("not started")
        state = self.process_state(name)
        if name in self.faults and state != "live":
            return Health("failed", since_ms, FAULTY)
        if server.release is None or (self.started_with is not None and process is None):
            return Health("preparing" if self.started_with is not None else "not deployed")
        if state == "unknown":
            return Health(state, None, SILENT_SUPERVISOR)
        return Health(state, since_ms, _fault(process) if state == "down" else "")


def _fault(process: Process | None) -> str:
    """Why a process is down, for everybody: what follows a colon is the machine's own business."""
    if process is None or not process.last_error:
        return "its process does not run"
    return f"its process {process.last_error.partition(':')[0]}"


class StatusReader:
    """What the supervisor wrote last, with what the prober says now.

    While `keep` runs the file is read in the background, and nobody who asks waits for it. Otherwise it is read by
    whoever asks, when it changed.

    Args:
        path: the supervisor's status file.
        stale_s: age in seconds from which it is no longer believed.
        clock: seconds since the epoch.
        prober: what the prober says now, from memory.
        submitted: what runtimes say now of servers whose releases are submitted, from memory.
    """

    def __init__(
        self,
        path: Path,
        stale_s: float,
        clock: Callable[[], float] = time.time,
        prober: Callable[[], ProberWord] = ProberWord,
        submitted: Callable[[], Mapping[str, Health]] = dict,
    ) -> None:
        self._path = path
        self._stale_s = stale_s
        self._clock = clock
        self._prober = prober
        self._submitted = submitted
        self._seen: Fingerprint | None = None
        self._file: _StatusFile | None = None
        self._processes: dict[str, Process] = {}
        self._kept_until = 0.0

    def read(self) -> RuntimeStatus:
        """The status now; that of the supervisor is not known when its file is absent, broken or stale."""
        if time.monotonic() >= self._kept_until:
            self._look()
        now, file, prober = self._clock(), self._file, self._prober()
        if file is None or now - file.at > self._stale_s:
            return RuntimeStatus(prober=prober, at_ms=int(now * 1000), submitted=self._submitted())
        known = self._processes
        at_ms, faults = int(now * 1000), file.edge_faults
        submitted = self._submitted()
        return RuntimeStatus(True, file.isolation, known, file.servers, file.faults, prober, at_ms, faults, submitted)

    async def keep(self) -> None:
        """Read the file whenever it changed, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._look)
                self._kept_until = time.monotonic() + KEPT_S
            except Exception:
                log.exception("the supervisor's status could not be read")
            await asyncio.sleep(LOOK_AGAIN_S)

    def _look(self) -> None:
        seen = fingerprint(self._path)
        if seen is not None and seen == self._seen:
            return
        try:
            file = _StatusFile.model_validate(json.loads(self._path.read_bytes()))
            self._processes = {process.name: process for process in file.processes}
            self._file = file
        except (OSError, ValueError, ValidationError):
            self._file = None
        self._seen = seen


class States:
    """How every server is doing, in a word, as search filters and counts by it: "stopped" or its standing.

    The same mapping is given until a server changed or somebody reported, and for a second at most: what is reported
    no more grows old.
    """

    def __init__(self, status: StatusReader, servers: Callable[[], Mapping[str, RegisteredServer]]) -> None:
        self._status = status
        self._servers = servers
        self._told: tuple[object, ...] = (None, None, None, None)
        self._plain: tuple[object, ...] = ()
        self._states: Mapping[str, str] = {}

    def __call__(self) -> Mapping[str, str]:
        """The states of now, by name."""
        now, servers = self._status.read(), self._servers()
        told = (servers, now.processes or None, now.prober.servers or None, now.submitted or None)
        plain = (now.known, now.prober.standing, now.at_ms // 1000)
        if plain != self._plain or any(one is not other for one, other in zip(told, self._told, strict=True)):
            self._told, self._plain = told, plain
            self._states = {
                name: "stopped" if server.stopped else now.standing(server).state for name, server in servers.items()
            }
        return self._states
