"""A gate: lets edges on other machines to the sockets of an instance on this one (`edge.gate`).

It has a supervisor and a home of its own, so that it goes on whatever happens to the instance. The edges that it lets
in are those that the hub tells, and while that is away those that it told last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pegboard.core.bundle import EDGE, open_bundle
from pegboard.core.errors import BundleRefused, ConfigurationError
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.spiffe import is_spiffe_id
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.noted import hub_names, noted
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.edge.clusters import HUB
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.command import ready as envoy_ready
from pegboard_hub.edge.gate import BOOTSTRAP, INTERNAL, gate_files, name_of
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.remote import Remote
from pegboard_hub.edge.standing import replica_of
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.edges_watch import EdgesDoor
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.isolated import as_edge_of
from pegboard_hub.runtime.logs import LogRotation
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import edge_process

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is looked which servers and which edges there are, in seconds."""

READY_S = 30.0


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What a gate is started with.

    Attributes:
        home: folder of its own state.
        instance: the home of the instance.
        port: TCP port to listen on.
        bind: the address to listen on.
    """

    home: Path
    instance: Path
    port: int
    bind: str


class EdgeGate:
    """Starts and stops one gate.

    Raises:
        ConfigurationError: something the operator must mend.
    """

    def __init__(self, settings: GateSettings, report: Reporter) -> None:
        self._settings = settings
        self._report = report
        self.instance = Home.at(settings.instance)
        self._own = Identity(self.instance.edge_svid, self.instance.edge_trust)
        if not self.instance.edge_svid.exists():
            mend = "start it with --mtls-port, and with --workload-api where edges on other machines have theirs from"
            raise ConfigurationError(str(settings.instance), ["its edge has no certificate to show", mend])
        if Home.at(settings.home).root == self.instance.root:
            raise ConfigurationError(str(settings.home), ["is the instance's home", "name another with --home"])
        preflight.check_place(settings.home)
        self.home = Home.open(settings.home)
        self._lock = preflight.lock(self.home)
        preflight.check_port(settings.port, settings.bind)
        preflight.find_envoy()
        self._isolation = as_edge_of(self.instance)
        self._supervisor = Supervisor((status := StatusFile(self.home, self._isolation)).write)
        self._status = status
        self._door = EdgesDoor(self.instance)
        self._known = self.home.edge / "edges.json"
        self._written: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring it up.

        Raises:
            PegboardError: Envoy does not start.
        """
        self._supervisor.tell()
        prepare(self.home, self._isolation, ())
        port = {"port": self._settings.port, "gate": str(self.instance.root)}
        replace_file(self.home.instance_file, json.dumps(port) + "\n")
        self._run(LogRotation(self.home).run(), "rotate logs")
        await self.look()
        self._run(self._follow(), "follow the instance")
        command = envoy_arguments(self.home.edge / BOOTSTRAP, 2)
        spec = edge_process(self.home, self._isolation, command, self._ready, _at_once)
        await self._supervisor.require(self._supervisor.start(spec), READY_S)
        self._status.started = time.time()
        self._report.step(f"the gate of {self.instance.root} is live on port {self._settings.port}")

    async def look(self) -> None:
        """Look once which servers and edges there are, and write what changed.

        Raises:
            OSError: a file cannot be written.
        """
        sockets, ports = self._behind()
        files = gate_files(
            self._settings.bind,
            self._settings.port,
            self._own,
            await self._edges(),
            sockets,
            self.home.edge,
            self.home.edge_admin_socket,
            ports,
        )
        for name, document in files.items():
            if (text := json.dumps(document)) != self._written.get(name):
                replace_file(self.home.edge / name, text)
                self._written[name] = text

    async def stop(self) -> None:
        """End it, and what goes through it."""
        await self._supervisor.stop([[EDGE]])
        await end(*self._tasks)
        await self._door.close()
        self._status.remove()

    def kill(self) -> None:
        """End everything at once, without asking."""
        self._supervisor.kill()

    async def _edges(self) -> tuple[str, ...]:
        """Whom to let in: as the hub says, else as it said last."""
        found = await self._door.ask()
        if found is None:
            try:
                kept = json.loads(self._known.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return ()
            return tuple(each for each in kept if is_spiffe_id(each))
        edges = tuple(sorted({each.spiffe_id for each in found if each.spiffe_id}))
        replace_file(self._known, json.dumps(edges))
        return edges

    def _behind(self) -> tuple[dict[str, list[Path]], dict[str, Remote]]:
        """What is behind the gate, by its name: at sockets, and at ports."""
        instance = self.instance
        hubs = hub_names(int(noted(instance).get("hubs") or 1))
        found = {HUB: [instance.far_hub_door(name) for name in hubs], INTERNAL: [instance.internal_socket]}
        try:
            verifier = Verifier(json.loads(instance.bundle_keys.read_text(encoding="utf-8")))
            bundle = open_bundle(instance.edge_bundle.read_text(encoding="utf-8"), verifier, EDGE)
        except (OSError, ValueError, BundleRefused) as error:
            logger.warning("which servers there are cannot be read: %s", error)
            return found, {}
        ports: dict[str, Remote] = {}
        for server in bundle.servers:
            name = ServerName.parse(server.server)
            if not server.endpoints:
                found[name_of(name)] = [instance.socket(name)]
            for replica in (replica_of(each, instance) for each in server.endpoints):
                if replica is not None and replica.socket is not None:
                    found[name_of(name, replica.mark)] = [replica.socket]
                elif replica is not None:
                    ports[name_of(name, replica.mark)] = Remote(replica.host, replica.port, replica.spiffe_id)
        return found, ports

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                logger.exception("the gate's configuration could not be renewed")

    async def _ready(self) -> bool:
        """Without an edge to let in it listens nowhere, and that is well."""
        return await envoy_ready(self.home, listens="[]" not in self._written["gate-lds.json"])

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(begin(work, name))


async def _at_once() -> None:
    """Edges try another connection: nothing is waited for."""
