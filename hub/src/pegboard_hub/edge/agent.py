"""The agent beside Envoy: keeps its files true to the signed bundle, and brings its refusals to the ledger.

It works without the hub: it decides with the last good bundle, refuses everything past that bundle's age, and keeps
its place in the access log until the hub is back.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from pegboard.core.bundle import EDGE, Bundle
from pegboard.core.names import ServerName
from pegboard.core.replicas import mark_of
from pegboard_hub.common.certificates import TlsFiles
from pegboard_hub.common.home import Home
from pegboard_hub.edge.accesslog import AccessLog
from pegboard_hub.edge.acknowledging import Acknowledging
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.config import render
from pegboard_hub.edge.delivery import RefusalDelivery
from pegboard_hub.edge.publish import Publisher
from pegboard_hub.edge.rotation import LARGEST_BYTES, AccessLogRotation
from pegboard_hub.edge.snapshot import PATIENCE, EdgeSnapshot, Gate, Patience
from pegboard_hub.edge.standing import EdgeStanding
from pegboard_hub.edge.statistics import EdgeStatistics
from pegboard_hub.edge.tls import Certificate
from pegboard_hub.telemetry import edge_table as table
from pegboard_hub.telemetry.exposition import Sample

logger = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often bundle and access log are looked at, in seconds."""

ROTATION_LOOK_S = 1.0
"""How often the access log's size is looked at, in seconds."""

LONGEST_WAIT_S = 5.0
"""The longest pause between two deliveries while the hub is away, in seconds."""


OWN_DOOR = "/internal/v1/edge"


@dataclass(frozen=True, slots=True)
class Joined:
    """Where an edge belongs.

    Attributes:
        instance: the home that hub and servers listen in.
        credential: file of what it shows at the hub's internal door.
        consumer: what it is called as a consumer of bundles.
        door: where it speaks at the hub's internal door.
        services_port: the port that services use, where the edge listens on another for them; 0 for the same.
        gate: the way to hub and servers on another machine; None where they are on this one.
    """

    instance: Home
    credential: Path
    consumer: str
    door: str
    services_port: int = 0
    gate: Gate | None = None


class EdgeAgent:
    """One instance's agent.

    Attributes:
        rendered: set once Envoy's files are there, so that Envoy can be started.
    """

    def __init__(
        self,
        home: Home,
        public_url: str,
        port: int,
        hosts: tuple[str, ...] | None = None,
        clock: Callable[[], float] = time.time,
        largest_log: int = LARGEST_BYTES,
        hubs: tuple[str, ...] = ("hub",),
        services_port: int | None = None,
        patience: Patience = PATIENCE,
        tls: TlsFiles | None = None,
        joined: Joined | None = None,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            home: the instance.
            public_url: the edge's origin.
            port: TCP port to listen on.
            hosts: addresses to listen on; by default what `localhost` means on this machine.
            clock: seconds since the epoch.
            largest_log: bytes of the access log beyond which it is rotated.
            hubs: what the hubs are called, of which there may be several.
            services_port: TCP port of the listener for services; None for none.
            patience: how long the edge waits for callers and servers.
            tls: the certificate's files; None where the port is HTTP's.
            joined: whose sockets it uses, and as whom; None for the instance's own edge.
        """
        as_own = Joined(home, home.operator_token, EDGE, OWN_DOOR)
        place = joined or as_own
        self.rendered = asyncio.Event()
        self._clock = clock
        self._standing = EdgeStanding(
            home,
            public_url,
            hosts or loopback_hosts(),
            port,
            hubs,
            services_port,
            patience,
            tls is not None,
            place.instance,
            place.consumer,
            place.services_port,
            place.gate,
        )
        self._certificate = Certificate(home, tls) if tls else None
        self._admin = EnvoyAdmin(home.edge_admin_socket)
        self._statistics = EdgeStatistics(self._admin)
        self._publisher = Publisher(home.edge, self._admin)
        self._log = log = AccessLog(home.edge_access_log, home.edge / "log.offset")
        self._delivery = RefusalDelivery(log, place.instance.internal_socket, place.credential, place.door)
        self._rotation = AccessLogRotation(home.edge_access_log, log, self._admin, largest_log)
        self._acknowledging = Acknowledging(
            self._publisher, place.instance.internal_socket, place.credential, place.door
        )
        self._published: EdgeSnapshot | None = None
        self._bundle: Bundle | None = None

    async def run(self) -> None:
        """Work until cancelled. No trouble with a file or the hub ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_configured())
                tasks.create_task(self._keep_delivering())
                tasks.create_task(self._keep_small())
                tasks.create_task(self._acknowledging.run())
        finally:
            await self._admin.close()
            await self._delivery.close()
            await self._acknowledging.close()

    async def refresh(self) -> bool:
        """Look at the bundle once and publish what follows from it. True when there is a configuration.

        Raises:
            OSError: a file cannot be written.
        """
        if self._certificate is not None and not self._certificate.look(self._clock()):
            return False
        self._standing.look()
        snapshot = self._standing.snapshot(self._clock())
        if snapshot is None:
            return False
        if snapshot != self._published:
            # With thousands of servers this takes seconds, and the supervisor shares this loop.
            await self._publisher.publish(await asyncio.to_thread(render, snapshot))
            self._published = snapshot
        self._bundle = self._standing.bundle  # Envoy was given what follows from it, and does it or refused it by now
        self._acknowledging.published(self._standing.used)
        self.rendered.set()
        return True

    @property
    def bundle(self) -> Bundle | None:
        """The bundle that Envoy was last given; None before the first good one."""
        return self._bundle

    @property
    def faults(self) -> tuple[str, ...]:
        """What Envoy was told and does not use, so that it goes on with what it had, a line each."""
        refused = tuple(f"Envoy refused {name} and goes on with the one before" for name in self._publisher.refused)
        if self._standing.refused:
            refused = (*refused, self._standing.refused)
        if self._certificate is not None and self._certificate.fault:
            return (*refused, f"the certificate in use is not the file's: {self._certificate.fault}")
        return refused

    async def metrics(self) -> list[Sample]:
        """What Envoy counted, as far as it answers, and what the agent itself knows."""
        own = [Sample(table.EDGE_REFUSALS_THINNED, {}, self._delivery.thinned)]
        if (bundle := self._standing.bundle) is not None:
            own += [
                Sample(table.EDGE_BUNDLE_VERSION, {}, bundle.version),
                Sample(table.EDGE_BUNDLE_ISSUED, {}, bundle.issued_at),
                Sample(table.EDGE_BUNDLE_MAX_AGE, {}, bundle.max_age_s),
            ]
        with suppress(OSError):
            own.append(Sample(table.EDGE_LOG_UNREAD, {}, self._log.unread_bytes()))
        return [*await self._statistics.read(), *own]

    def routes_to(self, server: ServerName) -> bool:
        """Whether Envoy sends calls to this server, by the configuration that it took last."""
        published = self._published
        return published is not None and any(each.access.server == server for each in published.servers)

    def sends_to(self, server: ServerName, address: str) -> bool:
        """Whether Envoy sends calls to this replica of a server, by the configuration that it took last.

        Args:
            server: its name.
            address: as an endpoint of a bundle names it.
        """
        published, mark = self._published, mark_of(address)
        servers = published.servers if published is not None else ()
        return any(
            each.access.server == server and mark in {replica.mark for replica in each.replicas} for each in servers
        )

    async def deliver(self) -> bool:
        """Deliver the next part of the access log. False when there was nothing new.

        Raises:
            httpx2.HTTPError: the hub cannot be reached.
            OSError: the log cannot be read.
        """
        return await self._delivery.deliver()

    async def _keep_configured(self) -> None:
        fault = ""
        while True:
            try:
                await self.refresh()
                fault = ""
            except OSError as error:
                # Envoy goes on with the files it has, and the next look may find it mended.
                if str(error) != fault:
                    logger.warning("the edge's configuration cannot be renewed, and is tried again: %s", error)
                fault = str(error)
            except Exception as error:
                if repr(error) != fault:
                    logger.exception("the edge's configuration could not be renewed")
                fault = repr(error)
            await asyncio.sleep(LOOK_S)

    async def _keep_delivering(self) -> None:
        wait, fault = LOOK_S, ""
        while True:
            try:
                wait = 0.0 if await self.deliver() else LOOK_S
                fault = ""
            except (httpx2.HTTPError, OSError) as error:
                wait = min(max(wait, LOOK_S) * 2, LONGEST_WAIT_S)
                if type(error).__name__ != fault:
                    logger.warning("refusals wait in the access log, until the hub takes them: %s", error)
                fault = type(error).__name__
            except Exception:
                wait = LONGEST_WAIT_S
                logger.exception("the access log could not be delivered")
            await asyncio.sleep(wait)

    async def _keep_small(self) -> None:
        fault = ""
        while True:
            try:
                await self._rotation.look()
                fault = ""
            except OSError as error:
                if str(error) != fault:
                    logger.warning("the access log cannot be rotated and goes on growing: %s", error)
                fault = str(error)
            except Exception as error:  # it must not take along what keeps the edge true to its bundle
                if repr(error) != fault:
                    logger.exception("the access log could not be rotated")
                fault = repr(error)
            await asyncio.sleep(ROTATION_LOOK_S)


def loopback_hosts() -> tuple[str, ...]:
    """The loopback addresses of this machine: a browser may take either for `localhost`."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return ("127.0.0.1",)
    return ("127.0.0.1", "::1")
