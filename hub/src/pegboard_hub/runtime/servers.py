"""The servers of one instance: each is brought up, and taken down again, for itself.

A fault of one server is that server's alone: it is said, and the others do not notice. What a running server was
started with (its source, its egress) stays as it was until it is started again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import Grant
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.registry.model import Access
from pegboard_hub.runtime import credentials
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.grants_watch import GrantsWatch, Reporter
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.permissions import prepare_server
from pegboard_hub.runtime.probes import calls_under_way
from pegboard_hub.runtime.releases import Release, ReleaseMaker
from pegboard_hub.runtime.source import state_of
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import server_process
from pegboard_hub.runtime.workshop import Report

logger = logging.getLogger(__name__)

LIVE_S = 60.0
"""A server that is not live so long after its start, in seconds, has a fault; it is kept running all the same."""

DRAIN_S = 30.0
"""How long the calls under way at a withdrawn server may take to their end, in seconds."""

HUB_LOOKS_S = 5.0
"""The hub takes a release over that was made while it ran, and can say then who may call it; in seconds, at most."""

LOOK_S = 0.2
"""How often it is asked whether they have ended, in seconds."""


class Maker(Protocol):
    """Makes releases of projects."""

    async def make(self, server: ServerName, project: Path, report: Report) -> Release:
        """As `ReleaseMaker.make`."""
        ...


Makes = Callable[[Home, Isolation, Path], Maker]
"""Gives who makes releases, for a home, its isolation and uv."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers run.

    Attributes:
        home: of the instance.
        uv: the program that builds environments.
        public_url: the edge's origin.
        grants: the folder that sources are relative to.
        routed: whether the edge sends calls to a server.
        watch: asks the hub whether people can call one.
    """

    home: Home
    uv: Path
    public_url: str
    grants: Path
    routed: Callable[[ServerName], bool]
    watch: GrantsWatch

    def source(self, grant: Grant) -> Path:
        """The folder of a server's project."""
        return (self.grants / grant.source).resolve()


class Servers:
    """Brings servers up and takes them down, and says how each is.

    Attributes:
        live: those that came up, with what was granted then.
    """

    def __init__(
        self,
        place: Place,
        isolation: GrowingIsolation,
        supervisor: Supervisor,
        status: StatusFile,
        report: Reporter,
        makes: Makes = ReleaseMaker,
    ) -> None:
        self.live: dict[ServerName, Access] = {}
        self._egress: dict[ServerName, tuple[str, ...]] = {}
        self._place = place
        self._growing = isolation
        self._supervisor = supervisor
        self._status = status
        self._report = report
        self._makes = makes

    @property
    def _isolation(self) -> Isolation:
        return self._growing.now

    @property
    def names(self) -> list[ServerName]:
        """Those that were taken on, whether they run or not."""
        return [ServerName.parse(name) for name in self._status.servers]

    @property
    def faults(self) -> list[str]:
        """What is wrong with which server, a line each."""
        return [f"{name} {fault}" for name, fault in self._status.faults.items()]

    def has_fault(self, server: ServerName) -> bool:
        """Whether a server was taken on and does not run. One that came up late has none any more."""
        process = self._supervisor.process(str(server))
        if str(server) in self._status.faults and process is not None and process.was_live.is_set():
            del self._status.faults[str(server)]
            self._come_up(server, self._place.watch.word.closed.get(str(server), ""))
        return str(server) in self._status.faults

    def compare(self, server: ServerName, grant: Grant) -> None:
        """Say it when a server that runs is granted other egress than it was started with: its sandbox stays."""
        if self._egress.get(server, grant.egress) != grant.egress:
            self._egress[server] = grant.egress
            self._report.problem(f"{server}: its egress changed in the grants file, in force from its next start on")

    def state(self, server: ServerName, grant: Grant) -> str:
        """A text that changes whenever something does that another try could depend on. It may take a while."""
        return state_of(self._place.source(grant), self._place.home.secrets(server))

    async def make_all(self, wanted: Mapping[ServerName, Grant]) -> list[Release]:
        """The releases that can be made; one that cannot does not keep the others from starting."""
        made = await asyncio.gather(*(self._make(server, grant) for server, grant in wanted.items()))
        return [release for release in made if release is not None]

    async def start_all(self, releases: Iterable[Release], wanted: Mapping[ServerName, Grant]) -> None:
        """Start these, whose channels are open, and wait until each is live or has a fault."""
        await asyncio.gather(*(self._start(release, wanted[release.server]) for release in releases))

    async def bring_up(self, server: ServerName, grant: Grant) -> None:
        """Everything that one more server needs, from folders to its first answer. Whatever fails is its fault."""
        self._status.servers[str(server)] = grant.source
        try:
            await self._supervisor.remove(str(server))  # of an earlier try
            self._growing.including(str(server))
            prepare_server(self._place.home, self._isolation, server)
            release = await self._make(server, grant)
            if release is not None:
                credentials.open_channel(self._place.home, self._isolation, release)
                await self._start(release, grant, while_it_runs=True)
        except Exception as error:
            logger.exception("%s could not be brought up", server)
            self._fault(server, f"is NOT started: {type(error).__name__}: {error}")

    async def take_down(self, server: ServerName, wanted_again: Callable[[], bool]) -> None:
        """End a server that is withdrawn: no new call, then none under way, then no process.

        The edge drops its route when the hub has told it to. Until then calls arrive, so the server goes on; should
        the file name it again meanwhile, nothing has happened.
        """
        while self._place.routed(server):
            await asyncio.sleep(LOOK_S)
            if wanted_again():
                return
        await self._drained(server)
        if wanted_again():
            return
        # First out of what is told, so that nobody reads of a server that was taken on and has no process.
        self._status.servers.pop(str(server), None)
        self._status.faults.pop(str(server), None)
        await self._supervisor.remove(str(server))
        credentials.close_channel(self._place.home, self._isolation, server)
        self.live.pop(server, None)
        self._egress.pop(server, None)
        self._supervisor.publish()
        self._report.step(f"{server} is withdrawn and has ended")

    async def _drained(self, server: ServerName) -> None:
        socket, deadline, idle = self._place.home.socket(server), time.monotonic() + DRAIN_S, 0
        # Twice in a row: a call that the edge passed on last may just be on its way.
        while idle < 2 and time.monotonic() < deadline:
            idle = idle + 1 if await calls_under_way(socket) == 0 else 0
            await asyncio.sleep(LOOK_S)

    async def _make(self, server: ServerName, grant: Grant) -> Release | None:
        self._status.servers[str(server)] = grant.source
        self._status.faults.pop(str(server), None)
        maker = self._makes(self._place.home, self._isolation, self._place.uv)
        began = time.monotonic()
        try:
            folder = self._place.source(grant)
            release = await maker.make(server, folder, lambda line: self._report.step(f"{server}: {line}"))
        except ReleaseFailed as error:
            self._fault(server, f"is NOT deployed: {error}")
            return None
        count = len(release.declaration.tools)
        tools = f"{count} tool{'' if count == 1 else 's'}"
        took = time.monotonic() - began
        self._report.step(f"{server}: release {release.digest[:12]} with {tools} is ready ({took:.1f} s)")
        return release

    async def _start(self, release: Release, grant: Grant, *, while_it_runs: bool = False) -> None:
        server, place = release.server, self._place
        try:
            spec = server_process(place.home, self._isolation, release, place.public_url, grant.egress)
        except ConfigurationError as error:
            self._fault(server, f"is NOT started: {'; '.join(error.problems)}")
            return
        self._egress[server] = grant.egress
        process = self._supervisor.start(spec)
        if await self._supervisor.live(process, LIVE_S):
            self.live[server] = Access(grant.groups, grant.surfaces, grant.channels, grant.services)
            if while_it_runs:
                await place.watch.taken_over(server, release.digest, HUB_LOOKS_S)
            self._come_up(server, await place.watch.closed(server))
        else:
            self._fault(server, f"is NOT live: it {process.last_error or 'does not answer'}; see {spec.log}")

    def _come_up(self, server: ServerName, closed: str) -> None:
        self._supervisor.publish()  # so that the status is never behind what was said
        self._report.step(f"{server} runs; {closed}" if closed else f"{server} is live")

    def _fault(self, server: ServerName, words: str) -> None:
        self._status.note_fault(str(server), words)
        self._supervisor.publish()
        self._report.problem(f"{server} {words}")
