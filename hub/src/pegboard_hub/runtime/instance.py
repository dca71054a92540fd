"""One running instance, from nothing to ready and back to nothing: the order of things, on one screen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pegboard.core.bundle import Ages
from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard_hub.common.certificates import TlsFiles, open_pair
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.noted import hub_names
from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.edge.command import drain, envoy_command
from pegboard_hub.edge.command import ready as envoy_ready
from pegboard_hub.edge.tls import SECRETS
from pegboard_hub.identity.settings import SECRETS as SIGN_IN_SECRETS
from pegboard_hub.identity.settings import SignInSettings, open_sign_in
from pegboard_hub.notify.settings import SECRETS as NOTIFY_SECRETS
from pegboard_hub.notify.settings import open_notify
from pegboard_hub.runtime import credentials, preflight
from pegboard_hub.runtime.edges_watch import EdgesWatch
from pegboard_hub.runtime.following import Following
from pegboard_hub.runtime.gathering import Gathering
from pegboard_hub.runtime.grants_file import GrantsFollower
from pegboard_hub.runtime.grants_watch import GrantsWatch, Reporter
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.logs import LogRotation
from pegboard_hub.runtime.migration import bring_up_to_date
from pegboard_hub.runtime.notify_watch import NotifyWatch
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.processes import Supervised
from pegboard_hub.runtime.releases import ReleaseMaker
from pegboard_hub.runtime.servers import Makes, Place, Servers
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.submitted import Submitted, sends_to
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import (
    EDGE,
    IDENTITY,
    PROBER,
    edge_process,
    hub_process,
    identity_process,
    prober_process,
    service_hosts,
)
from pegboard_hub.storage.postgresql import address_of
from pegboard_hub.storage.schema import Schema

HUB_LIMIT_S = 60.0
EDGE_LIMIT_S = 30.0
IDENTITY_LIMIT_S = 10.0
PROBER_LIMIT_S = 10.0
"""Nothing needs the prober: without it the status of servers is not known, and everything is served."""

HERE = "here"
ELSEWHERE = "elsewhere"
"""Where submitted servers are built and run: on this machine too, or by runtimes elsewhere alone."""

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
        services: how services call; None where they may not.
        tls: the certificate's files; None where the port is HTTP's.
        notify: the notification file; None where nobody is told of approvals.
        directory: the demo directory's file; None for the demo's own.
        follows: whether servers are brought in line with the grants file while it runs.
        submitted_here: submitted servers are built and run on this machine; else by runtimes elsewhere alone.
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
    services: ServiceSettings | None = None
    tls: TlsFiles | None = None
    notify: Path | None = None
    directory: Path | None = None
    follows: bool = True
    submitted_here: bool = True

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
        preflight.check_reach(settings.public_url, settings.bind, demo=sign_in.demo, tls=settings.tls is not None)
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
        makes: gives who makes servers' releases.

    Attributes:
        home: the instance's folder.
        isolation: how servers are kept apart.
        servers: the servers of the grants file.
    """

    def __init__(self, settings: InstanceSettings, report: Reporter, makes: Makes = ReleaseMaker) -> None:
        self._settings = settings
        self._report = report
        self._sign_in = open_sign_in(settings.sign_in)
        self._notify = open_notify(settings.notify)
        check_reach(settings, self._sign_in)
        preflight.check_place(settings.home)
        preflight.check_kind(settings.home)
        self.home = Home.open(settings.home)
        self._lock = preflight.lock(self.home)
        self._schema = NO_SCHEMA if settings.database_url else preflight.find_schema(self.home)
        self._hubs = hub_names(settings.hubs)
        preflight.check_port(settings.port, settings.bind)
        services = settings.services
        if services is not None:
            preflight.check_port(services.port, settings.bind, "--mtls-port", "PEGBOARD_MTLS_PORT")
        self._envoy = preflight.find_envoy()
        if settings.tls is not None and not (self.home.edge / SECRETS).exists():
            open_pair(settings.tls, time.time())  # with none to go on with, a bad one is said at once
        grants = GrantsFollower(settings.grants)
        read_by_hub = (settings.grants, *filter(None, (settings.sign_in, settings.notify)))
        self.isolation = choose(settings.isolation, self.home, grants.file.servers, self._envoy, read_by_hub)
        self._status = StatusFile(self.home, self.isolation)
        self._growing = GrowingIsolation(self.isolation)
        self._supervisor = Supervisor(self._publish)
        hosts = (settings.bind,) if settings.bind else None
        mtls_port = services.port if services is not None else None
        self._agent = EdgeAgent(
            self.home,
            settings.public_url,
            settings.port,
            hosts,
            hubs=self._hubs,
            services_port=mtls_port,
            tls=settings.tls,
        )
        self._status.edge = lambda: self._agent.faults
        self._grants_watch = GrantsWatch(self.home, report, self._status)
        place = Place(
            self.home,
            uv := preflight.find_uv(),
            settings.public_url,
            settings.grants.parent,
            self._agent.routes_to,
            self._grants_watch,
        )
        self.servers = Servers(place, self._growing, self._supervisor, self._status, report, makes)
        self._submitted = Submitted(
            self.home,
            self._growing,
            self._supervisor,
            settings.public_url,
            uv,
            sends_to(self._agent),
            report,
            lambda: grants.file.publishing.indexes,
            here=settings.submitted_here,
        )
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
        self._tasks.append(begin(LogRotation(home).run(), "rotating logs"))
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
            secrets = {SIGN_IN_SECRETS: self._sign_in.secrets, NOTIFY_SECRETS: self._notify.secrets}
            spec = hub_process(home, self.isolation, public_url, secrets, url, name, self._settings.directory)
            await self._supervisor.require(self._supervisor.start(spec), HUB_LIMIT_S)
            self._report.step(f"{name} is live")
        self._submitted.start()
        await self.servers.start_all(releases, wanted)
        await self._start_identity()
        await self._start_edge()
        self._report.step(f"edge is live at {public_url}")
        prober = self._supervisor.start(prober_process(home, self.isolation))
        if not await self._supervisor.live(prober, PROBER_LIMIT_S):
            log = home.log("prober")
            self._report.problem(f"the prober does not start, so the status of servers is unknown; see {log}")
        await self._grants_watch.look()
        self._status.started = time.time()
        self._tasks.append(begin(self._grants_watch.run(), "watching the grants"))
        edges = EdgesWatch(self.home, self._report, self._status)
        self._tasks.append(begin(edges.run(), "watching edges"))
        if self._settings.notify is not None:
            notify = NotifyWatch(self.home, self._report, self._status)
            self._tasks.append(begin(notify.run(), "watching notifications"))
        if self._settings.follows:
            self._follow = begin(self._following.run(), "following the grants file")

    async def stop(self) -> None:
        """End everything: the edge first, so that no new call arrives; the hub last, so that records still do.

        The prober ends with the edge: what is ended on purpose is not told as down.
        """
        if self._follow is not None:
            await end(self._follow, tidily=True)  # first, so that nothing is started any more
        await self._submitted.hold()
        servers = [str(server) for server in self.servers.names]
        await self._supervisor.stop([[EDGE, PROBER], [*servers, *self._submitted.processes]])
        await self._submitted.close()
        await end(*self._tasks)
        self._status.remove()
        self.home.gathered.unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._supervisor.kill()

    def _publish(self, processes: Iterable[Supervised]) -> None:
        self._submitted.note_change()
        self._status.write(processes)

    def _write_instance(self) -> None:
        settings = self._settings
        document = {
            "port": settings.port,
            "public_url": settings.public_url,
            "grants": str(settings.grants),
            "sign_in": str(settings.sign_in) if settings.sign_in else None,
            "notify": str(settings.notify) if settings.notify else None,
            "bind": settings.bind,
            "grants_max_age_s": settings.ages.grants_s,
            "stops_max_age_s": settings.ages.stops_s,
            "database": settings.database,
            "hubs": settings.hubs,
            "submitted": HERE if settings.submitted_here else ELSEWHERE,
            "services": asdict(settings.services) if settings.services else None,
        }
        if settings.tls is not None:
            document |= {"tls_cert": str(settings.tls.certificate), "tls_key": str(settings.tls.key)}
        replace_file(self.home.instance_file, json.dumps(document) + "\n")

    async def _start_identity(self) -> None:
        """The edge's identity, where services may call. Without it the edge serves people, and no service."""
        services, home = self._settings.services, self.home
        if services is None:
            for path in (home.edge_svid, home.edge_trust):
                path.unlink(missing_ok=True)
            return
        hosts = service_hosts(self._settings.public_url, self._settings.bind)
        keeper = self._supervisor.start(identity_process(home, self.isolation, services, hosts))
        if await self._supervisor.live(keeper, IDENTITY_LIMIT_S):
            self._report.step(f"services call at {services.origin(self._settings.public_url)}")
        else:
            log = home.log(IDENTITY)
            self._report.problem(f"the edge has no identity yet, so no service can call; see {log}")

    async def _start_edge(self) -> None:
        agent = self._agent
        working = begin(agent.run(), "the edge's agent")
        self._tasks.append(working)
        gathering = Gathering(
            self.home,
            self.isolation,
            lambda: self._supervisor.processes,
            lambda: len(self.servers.names),
            agent.metrics,
        )
        self._tasks.append(begin(gathering.run(), "gathering metrics"))
        rendered = asyncio.create_task(agent.rendered.wait())
        await asyncio.wait({working, rendered}, timeout=EDGE_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        if not agent.rendered.is_set():
            rendered.cancel()
            raise PegboardError("the edge has no configuration: the hub wrote no bundle that verifies")
        home = self.home
        spec = edge_process(home, self.isolation, envoy_command(home), lambda: envoy_ready(home), lambda: drain(home))
        await self._supervisor.require(self._supervisor.start(spec), EDGE_LIMIT_S)
