"""What the supervisor says of its processes. The hub only reads it, and says "unknown" when it is stale."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard_hub.registry.model import RegisteredServer

ServerState = Literal["live", "starting", "down", "unknown", "not deployed", "preparing", "failed", "not started"]
"""Beyond what a process can be: `not started`: just granted, and the supervisor has not taken it on yet; `preparing`:
it makes its release; `failed`: that, or its start, went wrong and is not tried again by itself."""


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


class _StatusFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    at: float
    isolation: Isolation
    servers: dict[str, str] | None = None
    faults: dict[str, str] = {}
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """The supervisor's word at one moment; with `known` false there is none that may be believed.

    Attributes:
        started_with: the source of each server that was taken on; None where it is not said.
        faults: servers that do not run as they should, each with why.
    """

    known: bool = False
    isolation: Isolation = _NO_REPORT
    processes: dict[str, Process] = field(default_factory=dict)
    started_with: dict[str, str] | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def state(self, server: RegisteredServer) -> ServerState:
        """How one registered server is doing."""
        if self.started_with is not None and str(server.name) not in self.started_with:
            return "not started"
        state = self.process_state(str(server.name))
        if str(server.name) in self.faults and state != "live":
            return "failed"
        if server.release is None or (self.started_with is not None and str(server.name) not in self.processes):
            return "preparing" if self.started_with is not None else "not deployed"
        return state

    def process_state(self, name: str) -> ServerState:
        """How the process of that name is doing; one the supervisor does not name is down."""
        if not self.known:
            return "unknown"
        process = self.processes.get(name)
        return process.state if process else "down"


class StatusReader:
    """Reads the status file anew at each question: it is small, and two seconds old at most."""

    def __init__(self, path: Path, stale_s: float, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._stale_s = stale_s
        self._clock = clock

    def read(self) -> RuntimeStatus:
        """The status now; not known when the file is absent, broken or stale."""
        try:
            file = _StatusFile.model_validate(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, ValidationError):
            return RuntimeStatus()
        if self._clock() - file.at > self._stale_s:
            return RuntimeStatus()
        processes = {process.name: process for process in file.processes}
        return RuntimeStatus(True, file.isolation, processes, file.servers, file.faults)
