"""One running instance, from nothing to ready and back to nothing: the order of things, on one screen."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard.core.grants import GrantsFile, read_grants
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.edge.command import envoy_command
from pegboard_hub.edge.command import ready as envoy_ready
from pegboard_hub.registry.model import Access
from pegboard_hub.runtime import credentials, preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.gathering import Gathering
from pegboard_hub.runtime.grants_watch import GrantsWatch, Reporter
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.logs import LogRotation
from pegboard_hub.runtime.migration import bring_up_to_date
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.releases import Release, ReleaseMaker
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import EDGE, edge_process, hub_process, server_process

HUB_LIMIT_S = 60.0
SERVER_LIMIT_S = 60.0
EDGE_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """What one instance is started with.

    Attributes:
        home: folder of its state.
        port: TCP port of the edge, on loopback.
        public_url: origin under which callers reach it.
        grants: the operator's grants file.
        isolation: auto, bubblewrap, user or off.
    """

    home: Path
    port: int
    public_url: str
    grants: Path
    isolation: str = "auto"


class Instance:
    """Starts and stops everything that belongs to one home.

    Args:
        settings: what to start.
        report: takes one line of progress at a time.

    Attributes:
        faults: servers that are not deployed, started or live after the start, a line each.
        live: servers that came up, with what was granted at the start.
    """

    def __init__(self, settings: InstanceSettings, report: Reporter) -> None:
        self.faults: list[str] = []
        self.live: dict[ServerName, Access] = {}
        self._settings = settings
        self._report = report
        preflight.check_place(settings.home)
        self.home = Home.open(settings.home)
        self._lock = preflight.lock(self.home)
        self._schema = preflight.find_schema(self.home)
        preflight.check_port(settings.port)
        self._envoy = preflight.find_envoy()
        self._uv = preflight.find_uv()
        self._grants = _read_grants(settings.grants)
        self._servers = [ServerName.parse(name) for name in self._grants.servers]
        self.isolation = choose(settings.isolation, self.home, self._grants.servers, self._envoy, settings.grants)
        sources = {name: grant.source for name, grant in self._grants.servers.items()}
        self._status = StatusFile(self.home, self.isolation, sources)
        self._supervisor = Supervisor(self._status.write)
        self._grants_watch = GrantsWatch(self.home, report)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def standing(self) -> tuple[str, ...]:
        """What the hub last said of the grants file that the operator should know, a line each."""
        return self._grants_watch.word.lines

    async def start(self) -> None:
        """Bring everything up.

        Raises:
            PegboardError: something that everything else needs does not start.
        """
        home, public_url = self.home, self._settings.public_url
        self._supervisor.tell()
        self._tasks.append(asyncio.create_task(LogRotation(home).run(), name="rotate logs"))
        self._report.step(f"isolation is {self.isolation.mode}: {self.isolation.why}")
        prepare(home, self.isolation, self._servers)
        self._write_instance()
        releases = await self._make_releases()
        credentials.issue(home, self.isolation, releases)
        home.gathered.unlink(missing_ok=True)  # of a run that was killed
        await bring_up_to_date(home, self.isolation, self._schema, self._report)
        hub = self._supervisor.start(hub_process(home, self.isolation, public_url))
        await self._supervisor.require(hub, HUB_LIMIT_S)
        self._report.step("hub is live")
        await asyncio.gather(*(self._start_server(release) for release in releases))
        await self._start_edge()
        self._report.step(f"edge is live at {public_url}")
        await self._grants_watch.look()
        self._status.started = time.time()
        self._tasks.append(asyncio.create_task(self._grants_watch.run(), name="grants watch"))

    async def stop(self) -> None:
        """End everything: the edge first, so that no new call arrives; the hub last, so that records still do."""
        servers = [str(server) for server in self._servers]
        await self._supervisor.stop([[EDGE], servers])
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._status.remove()
        self.home.gathered.unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._supervisor.kill()

    def _write_instance(self) -> None:
        settings = self._settings
        document = {"port": settings.port, "public_url": settings.public_url, "grants": str(settings.grants)}
        replace_file(self.home.instance_file, json.dumps(document) + "\n")

    async def _make_releases(self) -> list[Release]:
        """The releases that could be made; one that could not does not keep the others from starting."""
        maker = ReleaseMaker(self.home, self.isolation, self._uv)
        made = await asyncio.gather(*(self._make_release(maker, server) for server in self._servers))
        return [release for release in made if release is not None]

    async def _make_release(self, maker: ReleaseMaker, server: ServerName) -> Release | None:
        folder = (self._settings.grants.parent / self._grants.servers[str(server)].source).resolve()
        began = time.monotonic()
        try:
            release = await maker.make(server, folder, lambda line: self._report.step(f"{server}: {line}"))
        except ReleaseFailed as error:
            self._fault(f"{server} is NOT deployed: {error}")
            return None
        count = len(release.declaration.tools)
        tools = f"{count} tool{'' if count == 1 else 's'}"
        took = time.monotonic() - began
        self._report.step(f"{server}: release {release.digest[:12]} with {tools} is ready ({took:.1f} s)")
        return release

    async def _start_server(self, release: Release) -> None:
        server = release.server
        try:
            egress = self._grants.servers[str(server)].egress
            spec = server_process(self.home, self.isolation, release, self._settings.public_url, egress)
        except ConfigurationError as error:
            self._fault(f"{server} is NOT started: {error}")
            return
        process = self._supervisor.start(spec)
        if await self._supervisor.live(process, SERVER_LIMIT_S):
            grant = self._grants.servers[str(server)]
            self.live[server] = Access(grant.groups, grant.surfaces, grant.channels, grant.services)
            self._report.step(f"{server} is live")
        else:
            self._fault(f"{server} is NOT live: it {process.last_error or 'does not answer'}; see {spec.log}")

    def _fault(self, line: str) -> None:
        self.faults.append(line)
        self._report.problem(line)

    async def _start_edge(self) -> None:
        agent = EdgeAgent(self.home, self._settings.public_url, self._settings.port)
        working = asyncio.create_task(agent.run(), name="edge agent")
        self._tasks.append(working)
        gathering = Gathering(
            self.home, self.isolation, lambda: self._supervisor.processes, len(self._servers), agent.metrics
        )
        self._tasks.append(asyncio.create_task(gathering.run(), name="gather metrics"))
        rendered = asyncio.create_task(agent.rendered.wait())
        await asyncio.wait({working, rendered}, timeout=EDGE_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        if not agent.rendered.is_set():
            rendered.cancel()
            raise PegboardError("the edge has no configuration: the hub wrote no bundle that verifies")
        spec = edge_process(self.home, self.isolation, envoy_command(self.home), lambda: envoy_ready(self.home))
        await self._supervisor.require(self._supervisor.start(spec), EDGE_LIMIT_S)


def _read_grants(path: Path) -> GrantsFile:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            str(path), [f"cannot be read: {error.strerror}", "name another with --grants"]
        ) from error
    return read_grants(text, str(path))
