"""What the edge may decide with: its signed bundle, verified, never older than one it has already accepted."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import EDGE, Bundle, BundledServer, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.snapshot import EdgeServer, EdgeSnapshot

logger = logging.getLogger(__name__)


class _ForAnotherEdge(BundleRefused):
    """A good bundle that was made for another public URL than this edge's."""


class EdgeStanding:
    """The bundle in use. A bad replacement leaves the last good one; a copy of that survives a restart.

    The copy makes versions monotonic over restarts: an old bundle put back while the edge was down is refused.

    Attributes:
        used: what is to be acknowledged of the bundle in use, once Envoy uses what follows from it.
    """

    def __init__(
        self, home: Home, public_url: str, hosts: tuple[str, ...], port: int, hubs: tuple[str, ...] = ("hub",)
    ) -> None:
        self._hub, *self._more_hubs = (home.hub_door(name) for name in hubs)
        self.used: Acknowledgement | None = None
        self._home = home
        self._public_url = public_url
        self._hosts = hosts
        self._port = port
        self._accepted = home.edge / "accepted.jws"
        self._bundle: Bundle | None = None
        self._snapshot: EdgeSnapshot | None = None
        self._known: dict[str, tuple[BundledServer, EdgeServer]] = {}
        self._resumed = False
        self._seen: tuple[int, int] | None = None
        self._complaint = ""

    def look(self) -> None:
        """Read the accepted copy on the first look, and the hub's file whenever it was replaced."""
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
        if expired:
            self._complain(f"every call is refused: {renewed}")
        elif stops_unknown:
            self._complain(f"servers with sensitive data refuse, for they may have been stopped: {renewed}")
        if self._snapshot is None:
            self._snapshot = self._snapshot_of(bundle)
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
        )

    def _of(self, server: BundledServer) -> tuple[BundledServer, EdgeServer]:
        before = self._known.get(server.server)
        if before is not None and before[0] == server:
            return before
        return server, EdgeServer(server.access(self._public_url), self._home.socket(ServerName.parse(server.server)))

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
            self._complain(f"the bundle {path.name} is not used, and the last good one stays: {refused.reason}")
        else:
            self._complaint = ""
        return True

    def _take(self, text: str, verifier: Verifier) -> None:
        current = self._bundle
        bundle = open_bundle(text, verifier, EDGE, current.version if current else 0)
        if bundle.issuer != self._public_url:
            raise _ForAnotherEdge(f"it is for {bundle.issuer}, and this edge is {self._public_url}")
        if current and bundle.version == current.version and bundle.issued_at < current.issued_at:
            raise BundleRefused("it was signed before the one in use")
        if current is None or bundle.version != current.version:
            self._snapshot = None  # a version that is only signed anew says the same
        self._bundle = bundle
        self.used = Acknowledgement.of(text, bundle, verifier)
        replace_file(self._accepted, text)

    def _set_aside(self, path: Path, refused: _ForAnotherEdge) -> None:
        """Leave a bundle for another public URL alone. That the last run had another one is no trouble."""
        if path == self._accepted:
            logger.info("the bundle kept from the last run is not used: %s", refused.reason)
        else:
            self._complain(f"the bundle {path.name} is not used, and the last good one stays: {refused.reason}")

    def _complain(self, words: str) -> None:
        """Log a trouble once, not at every look."""
        if words != self._complaint:
            self._complaint = words
            logger.error("%s", words)


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
