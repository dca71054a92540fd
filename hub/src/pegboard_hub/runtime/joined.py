"""A joined edge: Envoy and its agent under a supervisor of their own, in a home of their own.

It shares with the instance that it joined the public URL, the sockets of hub and servers, and nothing that it decides
with: its bundle, its keys and Envoy's files lie in its own home, and it starts from them while the hub is away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pegboard.core.bundle import edge_consumer
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.certificates import TlsFiles, open_pair
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.joining import LONGEST_FAULT, MOST_FAULTS, EdgeWord, JoinFile, read_join_file
from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.edge.agent import EdgeAgent, Joined
from pegboard_hub.edge.command import drain, envoy_arguments, envoy_command
from pegboard_hub.edge.command import ready as envoy_ready
from pegboard_hub.edge.gate import TUNNEL, tunnel
from pegboard_hub.edge.link import DOOR, Link, Removed
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.snapshot import Gate
from pegboard_hub.edge.tls import SECRETS
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.gathering import EVERY_S
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.isolated import as_edge_of
from pegboard_hub.runtime.logs import LogRotation
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.processes import State
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import EDGE, IDENTITY, edge_process, identity_process, tunnel_process
from pegboard_hub.runtime.table import TUNNEL as TUNNEL_NAME
from pegboard_hub.telemetry.exposition import write

logger = logging.getLogger(__name__)

ASK_FIRST_S = 3.0
"""Seconds for which a start waits for the hub's news: whoever was away must not serve from what is old while there is
something newer. Then it starts from what it has."""

READY_S = 30.0
"""Seconds within which Envoy takes calls, once it has a configuration."""

IDENTITY_S = 10.0
"""Seconds within which an identity is expected to be there."""

_STATES = {State.STARTING: "starting", State.LIVE: "live", State.DOWN: "down"}


@dataclass(frozen=True, slots=True)
class JoinedSettings:
    """What a joined edge is started with.

    Attributes:
        home: folder of its own state.
        port: TCP port to listen on.
        join: the file that the operator made; None for that of its last start.
        bind: the address to listen on; empty: loopback.
        services_port: TCP port of the listener for services; None for none.
        tls: the certificate's files; None where the port is HTTP's.
        workload_api: address of the Workload API that an edge on another machine has its identity from; empty where
            somebody else keeps the files of it in its home.
        trust_domains: whose SPIFFE IDs count there.
        direct: servers that have addresses of their own are gone to there, and not through the gate.
    """

    home: Path
    port: int
    join: Path | None = None
    bind: str = ""
    services_port: int | None = None
    tls: TlsFiles | None = None
    workload_api: str = ""
    trust_domains: tuple[str, ...] = ()
    direct: bool = False


class JoinedEdge:
    """Starts and stops one joined edge.

    Args:
        settings: what to start.
        report: takes one line of progress at a time.

    Raises:
        ConfigurationError: something the operator must mend.

    Attributes:
        home: the edge's own.
        join: what it was joined with.
        removed: why the hub has removed it; empty while it has not. It serves nobody then.
    """

    def __init__(self, settings: JoinedSettings, report: Reporter) -> None:
        self._settings = settings
        self._report = report
        self.removed = ""
        self.join = _join(settings)
        _check_homes(settings.home, self.join)
        preflight.check_place(settings.home)
        self.home = Home.open(settings.home)
        # Of an instance on another machine the hub's door is a socket in this home: a tunnel makes it.
        self.instance = self.home if self.join.gate else Home.at(self.join.instance)
        self._gate = _gate(self.home, self.join, direct=settings.direct)
        _check_identity(settings, self.home, self.join)
        self._lock = preflight.lock(self.home)
        preflight.check_port(settings.port, settings.bind)
        if settings.services_port is not None:
            preflight.check_port(settings.services_port, settings.bind, "--mtls-port", "PEGBOARD_MTLS_PORT")
        if settings.tls is not None and not (self.home.edge / SECRETS).exists():
            open_pair(settings.tls, time.time())
        preflight.find_envoy()
        self.isolation = as_edge_of(self.instance)
        self._status = StatusFile(self.home, self.isolation)
        self._supervisor = Supervisor(self._status.write)
        self._agent = EdgeAgent(
            self.home,
            self.join.public_url,
            settings.port,
            (settings.bind,) if settings.bind else None,
            hubs=self.join.hubs,
            services_port=settings.services_port,
            tls=settings.tls,
            joined=Joined(
                self.instance,
                self.home.edge_credential,
                edge_consumer(self.join.name),
                DOOR,
                self.join.services_port,
                self._gate,
            ),
        )
        self._link = Link(self.home, self.join, at_socket(self.instance.internal_socket), self._word)
        self._status.edge = lambda: self._faults
        self._started_at = int(time.time())
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._linked: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring the edge up. It waits for a hub that is away only where there is nothing to start from.

        Raises:
            PegboardError: Envoy does not start.
            Removed: the hub has removed this edge.
        """
        home = self.home
        self._supervisor.tell()
        self._keep()
        prepare(home, self.isolation, ())
        self._run(LogRotation(home).run(), "rotate logs")
        if self._gate is not None:
            await self._start_tunnel(self._gate)
        self._linked = asyncio.create_task(self._link.run(), name="link to the hub")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._or_removed(self._link.tried), ASK_FIRST_S)
        if self._link.heard_at is None:
            self._report.problem(f"the hub of {self.instance.root} gives no news: {self._link.fault or 'no answer'}")
        self._run(self._agent.run(), "edge agent")
        self._run(self._gather(), "gather metrics")
        await self._or_removed(self._agent.rendered)
        spec = edge_process(home, self.isolation, envoy_command(home), lambda: envoy_ready(home), lambda: drain(home))
        await self._supervisor.require(self._supervisor.start(spec), READY_S)
        self._status.started = time.time()
        self._report.step(f"edge {self.join.name} is live for {self.join.public_url}, on port {self._settings.port}")

    async def _start_tunnel(self, gate: Gate) -> None:
        """What makes the hub's internal door a socket here; first the identity that it shows at the gate."""
        home, settings = self.home, self._settings
        if settings.workload_api:
            services = ServiceSettings(0, settings.trust_domains, settings.workload_api)
            keeper = self._supervisor.start(identity_process(home, self.isolation, services, ()))
            if not await self._supervisor.live(keeper, IDENTITY_S):
                self._report.problem(f"this edge has no identity yet; see {home.log(IDENTITY)}")
        admin = home.edge_admin_socket.with_name("tunnel.sock")
        file = home.edge / TUNNEL
        replace_file(file, json.dumps(tunnel(gate, home.internal_socket, admin)))
        tunnelling = self._supervisor.start(tunnel_process(home, envoy_arguments(file, 1), admin))
        if not await self._supervisor.live(tunnelling, READY_S):
            self._report.problem(f"the way to the hub does not come up; see {home.log(TUNNEL_NAME)}")

    async def stay(self) -> None:
        """Stay until the hub removes this edge.

        Raises:
            Removed: it has.
        """
        assert self._linked is not None  # noqa: S101 - it was started
        await self._linked

    async def stop(self) -> None:
        """End in order: no new call, then those that are under way, then Envoy."""
        self._draining = True
        await self._supervisor.stop([[EDGE], [TUNNEL_NAME]])
        await end(*self._tasks, *([self._linked] if self._linked else []))
        self._status.remove()
        self.home.gathered.unlink(missing_ok=True)

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._supervisor.kill()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(begin(work, name))

    async def _or_removed(self, event: asyncio.Event) -> None:
        """Wait for an event, or for the hub's word that this edge is none any more."""
        waiting = asyncio.create_task(event.wait())
        try:
            assert self._linked is not None  # noqa: S101 - it was started
            await asyncio.wait({waiting, self._linked}, return_when=asyncio.FIRST_COMPLETED)
            if self._linked.done():
                self._linked.result()
        finally:
            waiting.cancel()

    def _keep(self) -> None:
        """Keep what the next start needs, and what other commands of this home look at."""
        replace_file(self.home.join_file, self.join.model_dump_json(), mode=0o600)
        replace_file(self.home.edge_credential, self.join.credential, mode=0o600)
        settings = self._settings
        document: dict[str, object] = {
            "port": settings.port,
            "public_url": self.join.public_url,
            "bind": settings.bind,
            "edge": self.join.name,
        }
        if settings.tls is not None:
            document |= {"tls_cert": str(settings.tls.certificate), "tls_key": str(settings.tls.key)}
        replace_file(self.home.instance_file, json.dumps(document) + "\n")

    @property
    def _faults(self) -> tuple[str, ...]:
        away = (f"the hub gives no news: {self._link.fault}",) if self._link.fault else ()
        return (*self._agent.faults, *away)

    def _word(self) -> EdgeWord:
        process, bundle = self._supervisor.process(EDGE), self._agent.bundle
        state = _STATES[process.state] if process else "starting"
        return EdgeWord.model_validate(
            {
                "state": "draining" if self._draining else state,
                "version": bundle.version if bundle else 0,
                "issued_at": bundle.issued_at if bundle else 0,
                "faults": [" ".join(fault.split())[:LONGEST_FAULT] for fault in self._agent.faults[:MOST_FAULTS]],
                "software": version("pegboard-hub"),
                "started_at": self._started_at,
            }
        )

    async def _gather(self) -> None:
        while True:
            try:
                samples = await self._agent.metrics()
                await asyncio.to_thread(replace_file, self.home.gathered, write(samples).decode(), 0o400)
            except Exception:
                logger.exception("metrics could not be gathered")
            await asyncio.sleep(EVERY_S)


def _join(settings: JoinedSettings) -> JoinFile:
    kept = Home.at(settings.home).join_file
    if settings.join is None and not kept.exists():
        mend = "name the file that `pegboard edge add` made, with --join"
        raise ConfigurationError(str(settings.home), ["no edge was ever started there", mend])
    return read_join_file(settings.join or kept)


def _gate(home: Home, join: JoinFile, *, direct: bool) -> Gate | None:
    if join.gate is None:
        return None
    own = Identity(home.edge_svid, home.edge_trust)
    return Gate(join.gate.host, join.gate.port, join.gate.spiffe_id, own, direct)


def _check_identity(settings: JoinedSettings, home: Home, join: JoinFile) -> None:
    """See that an edge on another machine has something to show at the gate.

    Raises:
        ConfigurationError: it has not.
    """
    if join.gate is None or settings.workload_api or home.edge_svid.exists():
        return
    mend = "name where it comes from: --workload-api unix:///run/spire/agent.sock --trust-domain example.org"
    raise ConfigurationError(str(home.root), ["this edge has no identity to show at the gate", mend])


def _check_homes(home: Path, join: JoinFile) -> None:
    """See that the edge has a home of its own.

    Raises:
        ConfigurationError: it is an instance's, or another edge's.
    """
    mend = "name a folder of its own with --home"
    own = Home.at(home)
    if own.database.exists() or (join.gate is None and own.root == Home.at(join.instance).root):
        raise ConfigurationError(str(home), ["is the home of an instance, and not of an edge", mend])
    if own.join_file.exists() and (found := read_join_file(own.join_file)).name != join.name:
        raise ConfigurationError(str(home), [f"is the home of the edge {found.name}, not of {join.name}", mend])


__all__ = ["JoinedEdge", "JoinedSettings", "Removed"]
