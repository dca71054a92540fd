"""One running instance, from nothing to ready and back to nothing: the order of things, on one screen."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pegboard.core.bundle import Ages
from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard_hub.common.home import Home, hub_names, replace_file
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.edge.command import envoy_command
from pegboard_hub.edge.command import ready as envoy_ready
from pegboard_hub.identity.settings import SignInSettings, open_sign_in
from pegboard_hub.runtime import credentials, preflight
from pegboard_hub.runtime.following import Following
from pegboard_hub.runtime.gathering import Gathering
from pegboard_hub.runtime.grants_file import GrantsFollower
from pegboard_hub.runtime.grants_watch import GrantsWatch, Reporter
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.logs import LogRotation
from pegboard_hub.runtime.migration import bring_up_to_date
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.servers import Place, Servers
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import EDGE, PROBER, edge_process, hub_process, prober_process
from pegboard_hub.storage.postgresql import address_of
from pegboard_hub.storage.schema import Schema

HUB_LIMIT_S = 60.0
EDGE_LIMIT_S = 30.0
PROBER_LIMIT_S = 10.0
"""Nothing needs the prober: without it the status of servers is not known, and everything is served."""

NO_SCHEMA = Schema("", "")
"""Of the file in the home, where the data is elsewhere: whatever lies there is not looked at."""


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """What one instance is started with.

    Attributes:
        home: folder of its state.
        port: TCP port of the edge, on loopback.
        public_url: origin under which callers reach it.
        grants: the operator's grants file.
        sign_in: the sign-in file; None for the demo directory.
        bind: the address that the edge listens on; empty: loopback.
        isolation: auto, bubblewrap, user or off.
        ages: how old what edge and servers decide with may grow.
        database_url: of a PostgreSQL, with its password; empty for the file in the home.
        hubs: how many hub processes; several need a PostgreSQL.
    """

    home: Path
    port: int
    public_url: str
    grants: Path
    sign_in: Path | None = None
    bind: str = ""
    isolation: str = "auto"
    ages: Ages = field(default_factory=Ages)
    database_url: str = field(default="", repr=False)
    hubs: int = 1

    @property
    def database(self) -> str:
        """What may be shown of where the data is; empty for the file in the home."""
        return address_of(self.database_url) if self.database_url else ""


def check_reach(settings: InstanceSettings, sign_in: SignInSettings) -> None:
    """See that nobody reaches the instance who must not.

    Raises:
        ConfigurationError: as `preflight.check_reach` says.
    """
    try:
        preflight.check_reach(settings.public_url, settings.bind, demo=sign_in.demo)
    except ValueError as error:
        raise ConfigurationError("where Pegboard is reached", [str(error)]) from error


def _login(sign_in: SignInSettings) -> str:
    provider = sign_in.file.provider
    return f"{provider.title} ({provider.issuer})" if provider else "the demo directory"


class Instance:
    """Starts and stops everything that belongs to one home.

    Args:
        settings: what to start.
        report: takes one line of progress at a time.

    Attributes:
        home: the instance's folder.
        isolation: how servers are kept apart.
        servers: the servers of the grants file.
    """

    def __init__(self, settings: InstanceSettings, report: Reporter) -> None:
        self._settings = settings
        self._report = report
        self._sign_in = open_sign_in(settings.sign_in)
        check_reach(settings, self._sign_in)
        preflight.check_place(settings.home)
        self.home = Home.open(settings.home)
        self._lock = preflight.lock(self.home)
        self._schema = NO_SCHEMA if settings.database_url else preflight.find_schema(self.home)
        self._hubs = hub_names(settings.hubs)
        preflight.check_port(settings.port, settings.bind)
        self._envoy = preflight.find_envoy()
        grants = GrantsFollower(settings.grants)
        read_by_hub = (settings.grants, *([settings.sign_in] if settings.sign_in else []))
        self.isolation = choose(settings.isolation, self.home, grants.file.servers, self._envoy, read_by_hub)
        self._status = StatusFile(self.home, self.isolation)
        self._supervisor = Supervisor(self._status.write)
        hosts = (settings.bind,) if settings.bind else None
        self._agent = EdgeAgent(self.home, settings.public_url, settings.port, hosts, hubs=self._hubs)
        self._grants_watch = GrantsWatch(self.home, report, self._status)
        place = Place(
            self.home,
            preflight.find_uv(),
            settings.public_url,
            settings.grants.parent,
            self._agent.routes_to,
            self._grants_watch,
        )
        self.servers = Servers(place, self.isolation, self._supervisor, self._status, report)
        self._following = Following(grants, self.servers)
        self._tasks: list[asyncio.Task[None]] = []
        self._follow: asyncio.Task[None] | None = None

    @property
    def demo_people(self) -> bool:
        """Whether people are those of the demo directory."""
        return self._sign_in.demo

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
        self._report.step(f"grants are those of {self._settings.grants}")
        self._report.step(f"people sign in by {_login(self._sign_in)}")
        self._report.step(f"isolation is {self.isolation.mode}: {self.isolation.why}")
        wanted = self._following.wanted
        prepare(home, self.isolation, wanted)
        self._write_instance()
        url = self._settings.database_url
        if url:
            self._report.step(f"data is kept in {self._settings.database}")
        # Before releases are made, which takes long: a database that cannot be used ends the start.
        await bring_up_to_date(home, self.isolation, self._schema, self._report, url)
        releases = await self.servers.make_all(wanted)
        credentials.issue(home, self.isolation, releases)
        home.gathered.unlink(missing_ok=True)  # of a run that was killed
        for name in self._hubs:  # the first one leads
            spec = hub_process(home, self.isolation, public_url, self._sign_in.secrets, url, name)
            await self._supervisor.require(self._supervisor.start(spec), HUB_LIMIT_S)
            self._report.step(f"{name} is live")
        await self.servers.start_all(releases, wanted)
        await self._start_edge()
        self._report.step(f"edge is live at {public_url}")
        prober = self._supervisor.start(prober_process(home, self.isolation))
        if not await self._supervisor.live(prober, PROBER_LIMIT_S):
            log = home.log("prober")
            self._report.problem(f"the prober does not start, so the status of servers is unknown; see {log}")
        await self._grants_watch.look()
        self._status.started = time.time()
        self._tasks.append(asyncio.create_task(self._grants_watch.run(), name="grants watch"))
        self._follow = asyncio.create_task(self._following.run(), name="follow the grants file")

    async def stop(self) -> None:
        """End everything: the edge first, so that no new call arrives; the hub last, so that records still do.

        The prober ends with the edge: what is ended on purpose is not told as down.
        """
        if self._follow is not None:
            await _end(self._follow)  # first, so that nothing is started any more
        await self._supervisor.stop([[EDGE, PROBER], [str(server) for server in self.servers.names]])
        for task in self._tasks:
            await _end(task)
        self._status.remove()
        self.home.gathered.unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._supervisor.kill()

    def _write_instance(self) -> None:
        settings = self._settings
        document = {
            "port": settings.port,
            "public_url": settings.public_url,
            "grants": str(settings.grants),
            "sign_in": str(settings.sign_in) if settings.sign_in else None,
            "bind": settings.bind,
            "grants_max_age_s": settings.ages.grants_s,
            "stops_max_age_s": settings.ages.stops_s,
            "database": settings.database,
            "hubs": settings.hubs,
        }
        replace_file(self.home.instance_file, json.dumps(document) + "\n")

    async def _start_edge(self) -> None:
        agent = self._agent
        working = asyncio.create_task(agent.run(), name="edge agent")
        self._tasks.append(working)
        gathering = Gathering(
            self.home,
            self.isolation,
            lambda: self._supervisor.processes,
            lambda: len(self.servers.names),
            agent.metrics,
        )
        self._tasks.append(asyncio.create_task(gathering.run(), name="gather metrics"))
        rendered = asyncio.create_task(agent.rendered.wait())
        await asyncio.wait({working, rendered}, timeout=EDGE_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        if not agent.rendered.is_set():
            rendered.cancel()
            raise PegboardError("the edge has no configuration: the hub wrote no bundle that verifies")
        spec = edge_process(self.home, self.isolation, envoy_command(self.home), lambda: envoy_ready(self.home))
        await self._supervisor.require(self._supervisor.start(spec), EDGE_LIMIT_S)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
