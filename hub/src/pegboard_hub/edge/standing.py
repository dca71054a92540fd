"""What the edge may decide with: its signed bundle, verified, never older than one it has already accepted."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.address import parse
from pegboard.core.bundle import EDGE, WITHDRAWN_S, Bundle, BundledServer, Endpoint, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.replicas import mark_of, shares
from pegboard.core.stops import NOTHING_STOPPED
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.snapshot import (
    PATIENCE,
    EdgeServer,
    EdgeSnapshot,
    Gate,
    Patience,
    Replica,
    ServicesDoor,
)

logger = logging.getLogger(__name__)


class _ForAnotherEdge(BundleRefused):
    """A good bundle that was made for another public URL than this edge's."""


class EdgeStanding:
    """The bundle in use. A bad replacement leaves the last good one; a copy of that survives a restart.

    The copy makes versions monotonic over restarts: an old bundle put back while the edge was down is refused.

    Attributes:
        refused: why the newest bundle is not the one in use; empty when it is.
        used: what is to be acknowledged of the bundle in use, once Envoy uses what follows from it.
    """

    def __init__(
        self,
        home: Home,
        public_url: str,
        hosts: tuple[str, ...],
        port: int,
        hubs: tuple[str, ...] = ("hub",),
        services_port: int | None = None,
        patience: Patience = PATIENCE,
        tls: bool = False,
        instance: Home | None = None,
        consumer: str = EDGE,
        services_public_port: int = 0,
        gate: Gate | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            home: the edge's own: its bundle and its files.
            public_url: the edge's origin.
            hosts: addresses to listen on.
            port: TCP port to listen on.
            hubs: what the hubs are called.
            services_port: TCP port of the listener for services; None for none.
            patience: how long the edge waits for callers and servers.
            tls: whether the port is TLS's.
            instance: the home that hubs and servers listen in; None for the same.
            consumer: whose bundle it takes.
            services_public_port: the port that services use, where that is another.
            gate: the way to hub and servers on another machine; None where they are on this one.
        """
        self._instance = instance or home
        self._consumer = consumer
        self._gate = gate
        self._identity = Identity(self._instance.edge_svid, self._instance.edge_trust)
        door = ServicesDoor(services_port, self._identity, services_public_port) if services_port else None
        self._services = door
        self._hub, *self._more_hubs = (self._instance.hub_door(name) for name in hubs)
        self.used: Acknowledgement | None = None
        self._home = home
        self._public_url = public_url
        self._hosts = hosts
        self._port = port
        self._patience = patience
        self._tls = tls
        self._accepted = home.edge / "accepted.jws"
        self._bundle: Bundle | None = None
        self._snapshot: EdgeSnapshot | None = None
        self._known: dict[str, tuple[BundledServer, EdgeServer]] = {}
        self._resumed = False
        self._seen: tuple[int, int] | None = None
        self._keys_seen: tuple[int, int] | None = None
        self._withdrawn_at: float | None = None
        self.refused = ""
        self._complaint = ""

    def look(self) -> None:
        """Read the accepted copy on the first look, and the hub's file whenever it or the keys were replaced."""
        self._look_at_keys()
        if self._bundle is None and not self._resumed and self._accepted.exists():
            self._resumed = self._try(self._accepted)
        try:
            stat = self._home.edge_bundle.stat()
        except OSError as error:
            self._complain(f"no bundle at {self._home.edge_bundle}: {error.strerror}")
            return
        if (seen := (stat.st_mtime_ns, stat.st_ino)) != self._seen and self._try(self._home.edge_bundle):
            self._seen = seen

    @property
    def bundle(self) -> Bundle | None:
        """The bundle in use; None before the first good one."""
        return self._bundle

    def snapshot(self, now: float) -> EdgeSnapshot | None:
        """What Envoy is to know at `now`, seconds since the epoch; None before the first good bundle."""
        bundle = self._bundle
        if bundle is None:
            return None
        expired, stops_unknown = bundle.too_old(now), bundle.stops_too_old(now)
        renewed = f"the hub last renewed the bundle at {_moment(bundle.issued_at)}"
        if self._withdrawn_at is not None and time.monotonic() - self._withdrawn_at > WITHDRAWN_S:
            expired, renewed = True, "the key that signed the bundle was withdrawn, and the hub has signed none since"
        if expired:
            self._complain(f"every call is refused: {renewed}")
        elif stops_unknown:
            self._complain(f"servers with sensitive data refuse, for they may have been stopped: {renewed}")
        if self._snapshot is None:
            self._snapshot = self._snapshot_of(bundle)
        if self._snapshot.services is None and (door := self._door()) is not None:
            self._snapshot = replace(self._snapshot, services=door)
        if (expired, stops_unknown) != (self._snapshot.expired, self._snapshot.stops_unknown):
            self._snapshot = replace(self._snapshot, expired=expired, stops_unknown=stops_unknown)
        return self._snapshot

    def _snapshot_of(self, bundle: Bundle) -> EdgeSnapshot:
        # Of thousands of servers few differ from the last bundle's: what is made of the others is taken as it is.
        self._known = {server.server: self._of(server) for server in bundle.servers}
        servers = tuple(known for _, known in self._known.values())
        return EdgeSnapshot(
            public_url=self._public_url,
            hosts=self._hosts,
            port=self._port,
            issuer=bundle.issuer,
            jwks=bundle.jwks,
            servers=servers,
            hub_socket=self._hub,
            more_hubs=tuple(self._more_hubs),
            access_log=self._home.edge_access_log,
            admin_socket=self._home.edge_admin_socket,
            folder=self._home.edge,
            revoked=bundle.revoked,
            stops=bundle.stops,
            rules=bundle.rules,
            services=self._door(),
            limits=bundle.limits,
            patience=self._patience,
            tls=self._tls,
            gate=self._gate,
            own=self._identity,
        )

    def _door(self) -> ServicesDoor | None:
        """The listener for services, once there is an identity to listen with: Envoy wants its files to be there."""
        door = self._services
        there = door is not None and door.identity.svid.exists() and door.identity.trust.exists()
        return door if there else None

    def _of(self, server: BundledServer) -> tuple[BundledServer, EdgeServer]:
        before = self._known.get(server.server)
        if before is not None and before[0] == server:
            return before
        # Stops of callers and general rules are filters of their own, from the snapshot.
        access = server.access(self._public_url, NOTHING_STOPPED, ())
        socket = self._instance.socket(ServerName.parse(server.server))
        replicas = self._replicas(server)
        if server.endpoints and not replicas:
            socket = (
                self._instance.run / "s" / "none"
            )  # not where a server of that name listened that had no replicas
        percents = {each.release: each.percent for each in server.endpoints}
        return server, EdgeServer(access, socket, replicas, shares(percents, server.release))

    def _replicas(self, server: BundledServer) -> tuple[Replica, ...]:
        found = {each.address: replica_of(each, self._instance) for each in server.endpoints}
        for address, replica in found.items():
            if replica is None:
                self._complain(f"{address} is no socket of a server, so nothing is sent there")
        return tuple(replica for replica in found.values() if replica is not None)

    def _try(self, path: Path) -> bool:
        """Take the bundle at `path` into use. False when it could not be read, so that it is tried again."""
        try:
            verifier = Verifier(json.loads(self._home.bundle_keys.read_text(encoding="utf-8")))
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self._complain(f"a bundle cannot be verified yet: {type(error).__name__}: {error}")
            return False
        try:
            self._take(text, verifier)
        except _ForAnotherEdge as refused:
            self._set_aside(path, refused)
        except BundleRefused as refused:
            self._refuse(path, refused)
        else:
            self._complaint = self.refused = ""
        return True

    def _look_at_keys(self) -> None:
        """Note whether the key that signed the bundle in use is published still, whenever the keys were replaced."""
        try:
            stat = self._home.bundle_keys.stat()
            if (seen := (stat.st_mtime_ns, stat.st_ino)) == self._keys_seen:
                return
            kids = Verifier(json.loads(self._home.bundle_keys.read_text(encoding="utf-8"))).kids
        except (OSError, ValueError, KeyError, TypeError):
            return  # a bundle that is replaced meanwhile is not taken either
        self._keys_seen = seen
        self._seen = None  # what these keys have signed may be there already
        if self.used is None or self.used.signed_by in kids:
            self._withdrawn_at = None
        elif self._withdrawn_at is None:
            self._withdrawn_at = time.monotonic()

    def _take(self, text: str, verifier: Verifier) -> None:
        # Who has a key that leaked could sign any version, and must not keep the hub's own out by it.
        current = self._bundle if self.used and self.used.signed_by in verifier.kids else None
        bundle = open_bundle(text, verifier, self._consumer, current.version if current else 0)
        if bundle.issuer != self._public_url:
            raise _ForAnotherEdge(f"it is for {bundle.issuer}, and this edge is {self._public_url}")
        if current and bundle.version == current.version and bundle.issued_at < current.issued_at:
            raise BundleRefused("it was signed before the one in use")
        if current is None or bundle.version != current.version:
            self._snapshot = None  # a version that is only signed anew says the same
        self._bundle = bundle
        self._withdrawn_at = None
        self.used = Acknowledgement.of(text, bundle, verifier)
        replace_file(self._accepted, text)

    def _set_aside(self, path: Path, refused: _ForAnotherEdge) -> None:
        """Leave a bundle for another public URL alone. That the last run had another one is no trouble."""
        if path == self._accepted:
            logger.info("the bundle kept from the last run is not used: %s", refused.reason)
        else:
            self._refuse(path, refused)

    def _refuse(self, path: Path, refused: BundleRefused) -> None:
        self.refused = f"the bundle {path.name} is not used, and the last good one stays: {refused.reason}"
        self._complain(self.refused)

    def _complain(self, words: str) -> None:
        """Log a trouble once, not at every look."""
        if words != self._complaint:
            self._complaint = words
            logger.error("%s", words)


def replica_of(endpoint: Endpoint, instance: Home) -> Replica | None:
    """An endpoint of a bundle; None where it is a socket that no server has."""
    address, mark = parse(endpoint.address), mark_of(endpoint.address)
    if not address.path:
        return Replica(endpoint.release, mark, None, address.host, address.port, address.spiffe_id)
    socket = instance.replica_socket(address.path)
    return Replica(endpoint.release, mark, socket) if socket is not None else None


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
