"""Where one instance keeps its state, and where its sockets are.

Everything an instance owns lies under one folder, `PEGBOARD_HOME`. Only the sockets may live elsewhere: the kernel
takes 107 bytes for a socket's path (`unix(7)`), so a home that is too deep keeps its `run` folder under
`$XDG_RUNTIME_DIR` or `/tmp` and a symbolic link to it at its usual place.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard_hub.common.files import locked as locked
from pegboard_hub.common.files import replace_file as replace_file
from pegboard_hub.common.folders import SOCKET_FOLDER_LIMIT, fingerprint, make, run_folder
from pegboard_hub.common.folders import SOCKET_PATH_LIMIT as SOCKET_PATH_LIMIT

KERNEL_PATH_LIMIT = 107
"""Bytes of a socket's path that the kernel takes (`unix(7)`)."""

FOLDERS = {
    "data": 0o700,
    "keys": 0o700,
    "public": 0o755,
    "bundles": 0o755,
    "bundles/edge": 0o755,
    "edge": 0o755,
    "log": 0o755,
    "releases": 0o755,
    "packages": 0o755,
    "credentials": 0o711,
    "spool": 0o711,
    "state": 0o711,
    "work": 0o711,
    "secrets": 0o700,
    "builds": 0o711,
    "artifacts": 0o700,
}
"""Folders of every home with the mode they are created with; the home itself is 0700 until isolation opens it."""

_RUN_FOLDERS = {"hub": 0o755, "internal": 0o755, "edge": 0o755, "prober": 0o755, "runtime": 0o755, "s": 0o711}


@dataclass(frozen=True, slots=True)
class Home:
    """One instance's folder.

    Attributes:
        root: the folder itself, absolute.
        run: where sockets and other things of this run are; `root/run` or a short folder elsewhere.
    """

    root: Path
    run: Path

    @classmethod
    def open(cls, path: Path | str) -> Home:
        """The home at `path`, created with its folders where they are missing.

        Raises:
            ConfigurationError: a folder cannot be created or written, or a short run folder belongs to another user.
        """
        root = Path(path).expanduser().absolute()
        try:
            make(root, 0o700)
            root = root.resolve()
            for name, mode in FOLDERS.items():
                make(root / name, mode)
            run = run_folder(root)
            for name, mode in _RUN_FOLDERS.items():
                make(run / name, mode)
        except OSError as error:
            raise unusable(root, error) from error
        return cls(root, run)

    @classmethod
    def at(cls, path: Path | str) -> Home:
        """The home at `path` as it is, whether there is one or not: nothing is created and nothing is checked."""
        root = Path(path).expanduser().resolve()
        return cls(root, (root / "run").resolve())

    @property
    def instance(self) -> str:
        """Twelve characters that name this instance on this machine: two homes never share them."""
        return fingerprint(self.root)

    @property
    def instance_file(self) -> Path:
        """Port, public URL and grants file of the instance, as JSON."""
        return self.root / "instance.json"

    @property
    def data(self) -> Path:
        """Folder of the hub's database; the hub's alone."""
        return self.root / "data"

    @property
    def database(self) -> Path:
        """The hub's SQLite file."""
        return self.data / "pegboard.db"

    @property
    def issued(self) -> Path:
        """Folder of what the hub knows of each token that it has issued (`identity.issued`)."""
        return self.data / "issued"

    @property
    def keys(self) -> Path:
        """Folder of private keys (mode 0700); the hub's alone."""
        return self.root / "keys"

    @property
    def token_ring(self) -> Path:
        """The keys that tokens are signed with (`identity.ring`)."""
        return self.keys / "token-signing.jwk.json"

    @property
    def bundle_ring(self) -> Path:
        """The keys that bundles are signed with."""
        return self.keys / "bundle-signing.jwk.json"

    @property
    def release_ring(self) -> Path:
        """The keys that checked releases are signed with."""
        return self.keys / "release-signing.jwk.json"

    @property
    def sealing_key(self) -> Path:
        """The key that the hub seals with what it keeps of a sign-in (`identity.sealing`)."""
        return self.keys / "sealing.key"

    @property
    def bundle_keys(self) -> Path:
        """Public JWKS that bundles are verified with; written by the hub."""
        return self.root / "public" / "bundle-keys.json"

    @property
    def release_keys(self) -> Path:
        """Public JWKS that releases are verified with before anything of them is started; written by the hub."""
        return self.root / "public" / "release-keys.json"

    @property
    def edge_bundle(self) -> Path:
        """The edge's signed bundle."""
        return self.root / "bundles" / "edge" / "edge.jws"

    def joined_edge_bundle(self, name: str) -> Path:
        """The signed bundle of a joined edge, in the home of the instance that it joined."""
        return self.edge_bundle.with_name(f"{name}.joined.jws")

    @property
    def join_file(self) -> Path:
        """In the home of a joined edge: what it was joined with, and its credential (mode 0600)."""
        return self.root / "join.json"

    @property
    def edge_credential(self) -> Path:
        """In the home of a joined edge: what it shows at the hub's internal door (mode 0600)."""
        return self.root / "edge.credential"

    def bundle(self, server: ServerName) -> Path:
        """One server's signed bundle, in a folder of its own that the server may read."""
        return self.root / "bundles" / _file(server) / "bundle.jws"

    @property
    def runtimes(self) -> Path:
        """Which runtimes of their own there are, a file each (`common.runtimes.KnownRuntime`)."""
        return self.root / "runtimes"

    @property
    def edge(self) -> Path:
        """Folder of Envoy's rendered configuration."""
        return self.root / "edge"

    @property
    def edge_svid(self) -> Path:
        """The edge's own certificate and key, as a secret that Envoy watches; the edge's alone."""
        return self.edge / "sds-edge.json"

    @property
    def edge_trust(self) -> Path:
        """Whose certificates of services count, as a secret that Envoy watches."""
        return self.edge / "sds-trust.json"

    @property
    def services(self) -> Path:
        """Folder of the development CA that signs services' certificates (mode 0700); the operator's alone."""
        return self.root / "services"

    @property
    def edge_access_log(self) -> Path:
        """Envoy's access log, a JSON line per request."""
        return self.log("edge-access")

    def log(self, name: str | ServerName, replica: str = "") -> Path:
        """Log file of a process: `hub`, `envoy`, or a server, or one of its replicas."""
        return self.root / "log" / f"{_file(name, replica) if isinstance(name, ServerName) else name}.log"

    @property
    def packages(self) -> Path:
        """Folder of the kit's wheels by digest, those of earlier versions among them (`packages.shelf`)."""
        return self.root / "packages"

    def release(self, server: ServerName) -> Path:
        """Folder of a server's release: its environment and `declaration.json`."""
        return self.root / "releases" / _file(server)

    def declaration(self, server: ServerName) -> Path:
        """What the server's release declares (`core.release.Declaration` as JSON)."""
        return self.release(server) / "declaration.json"

    def made(self, server: ServerName, artifact: str) -> Path:
        """Folder of what an artifact was installed into: releases of a submitted server lie side by side."""
        return self.release(server) / "made" / artifact[:16]

    def build(self, number: str) -> Path:
        """Folder of one build, gone with it."""
        return self.root / "builds" / number

    def artifact_file(self, digest: str) -> Path:
        """A file that artifacts are made of, by its SHA-256; the runtime's alone."""
        return self.root / "artifacts" / digest

    def credentials(self, server: ServerName, replica: str = "") -> Path:
        """The channel token and digest key of a server, or of a replica; readable by that server alone."""
        return self.root / "credentials" / f"{_file(server, replica)}.json"

    def spool(self, server: ServerName, replica: str = "") -> Path:
        """Folder of the records of a server, or of a replica, that are not yet delivered."""
        return self.root / "spool" / _file(server, replica)

    def state(self, server: ServerName) -> Path:
        """What the server itself keeps over restarts and releases; the server's alone."""
        return self.root / "state" / _file(server)

    def environment(self, server: ServerName) -> Path:
        """The server's own Python environment."""
        return self.release(server) / "env"

    def project(self, server: ServerName) -> Path:
        """What the release keeps of the server's project: `pegboard.toml` and `policies/`."""
        return self.release(server) / "project"

    def work(self, server: ServerName, replica: str = "") -> Path:
        """The working folder of a server, or of a replica, its HOME and TMPDIR; emptied at every start."""
        return self.root / "work" / _file(server, replica)

    def secrets(self, server: ServerName) -> Path:
        """Folder where the operator puts the secret files that the server may name in its manifest."""
        return self.root / "secrets" / _file(server)

    @property
    def channels(self) -> Path:
        """Which channel token (by SHA-256) is which server and release; written by the supervisor for the hub."""
        return self.run / "channels.json"

    @property
    def operator_token(self) -> Path:
        """The supervisor's own credential at the hub's internal door."""
        return self.run / "operator.token"

    @property
    def status(self) -> Path:
        """What the supervisor knows of its processes, as JSON."""
        return self.run / "status.json"

    @property
    def scrape_token(self) -> Path:
        """The credential that `/metrics` wants, for whoever collects metrics; the operator's alone."""
        return self.root / "scrape.token"

    @property
    def scrape_digest(self) -> Path:
        """SHA-256 of the scrape credential, for the hub."""
        return self.run / "scrape.sha256"

    @property
    def prober_token(self) -> Path:
        """The prober's own credential at the hub's internal door."""
        return self.run / "prober.token"

    @property
    def prober_digest(self) -> Path:
        """SHA-256 of the prober's credential, for the hub."""
        return self.run / "prober.sha256"

    @property
    def prober_beat(self) -> Path:
        """Touched by the prober whenever it has told the hub, or tried to; in a folder of its own."""
        return self.run / "prober" / "beat"

    @property
    def identity_beat(self) -> Path:
        """Touched by the keeper of the edge's identity whenever it has looked at its source."""
        return self.run / "identity.beat"

    @property
    def gathered(self) -> Path:
        """The metrics of edge, servers and processes as the supervisor last gathered them, for the hub."""
        return self.run / "metrics.prom"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the one supervisor of this home."""
        return self.root / "supervisor.lock"

    @property
    def detached(self) -> Path:
        """The command that brings this home's supervisor back; there while the instance is meant to run detached."""
        return self.run / "detached.json"

    @property
    def keeper(self) -> Path:
        """What the keeper knows of the supervisor's restarts, as JSON."""
        return self.run / "keeper.json"

    @property
    def keeper_lock(self) -> Path:
        """Locked (flock) by the one keeper of this home."""
        return self.root / "keeper.lock"

    @property
    def hub_socket(self) -> Path:
        """The hub's public door; the edge proxies to it."""
        return self.run / "hub" / "hub.sock"

    def hub_door(self, name: str) -> Path:
        """The public door of one of several hubs: hub, hub-2, hub-3…"""
        return self.hub_socket.with_name(f"{name}.sock")

    def far_hub_door(self, name: str) -> Path:
        """A hub's public door for edges on other machines: what is said of certificates there counts for nothing."""
        return self.hub_socket.with_name(f"{name}.far.sock")

    @property
    def internal_socket(self) -> Path:
        """The internal door of the hub that leads: servers deliver records, the edge's agent delivers refusals."""
        return self.run / "internal" / "internal.sock"

    @property
    def edge_certificate(self) -> Path:
        """The certificate that the edge serves with, without its key: for those on this machine who call it."""
        return self.run / "edge-certificate.pem"

    @property
    def edge_admin_socket(self) -> Path:
        """Envoy's administration, never on TCP."""
        return self.run / "edge" / "admin.sock"

    def socket(self, server: ServerName, replica: str = "") -> Path:
        """The socket of a server, or of a replica, in a folder that only the server and the edge may enter."""
        name = _file(server)
        if len(name) > SOCKET_FOLDER_LIMIT:
            # A sign that no name has, and a digest too long to look for: nobody names a server so as to share it.
            name = f"{name[:11]}_{hashlib.sha256(name.encode()).hexdigest()[:20]}"
        return self.run / "s" / name / f"{replica or 'mcp'}.sock"

    @property
    def runtime_socket(self) -> Path:
        """The door of this machine's runtime, where the hub asks for logs."""
        return self.run / "runtime" / "runtime.sock"

    def runtime_door(self, name: str) -> Path:
        """Where the hub asks a runtime elsewhere for logs; a sidecar makes it."""
        return self.runtime_socket.with_name(f"{name}.far.sock")

    def replica_socket(self, path: str) -> Path | None:
        """The socket of a replica, by its path from the run folder on (`core.address`).

        None where servers have none, as at the doors of the hub, or where it is too long to be one.
        """
        socket = self.run / path
        fits = len(os.fsencode(socket)) <= KERNEL_PATH_LIMIT
        return socket if path.startswith("s/") and fits else None

    def add_server(self, server: ServerName) -> None:
        """Create the folders that belong to one server, where they are missing."""
        make(self.bundle(server).parent, 0o755)
        make(self.release(server), 0o755)
        make(self.spool(server), 0o700)
        make(self.state(server), 0o700)
        make(self.socket(server).parent, 0o755)


def unusable(root: Path, error: OSError) -> ConfigurationError:
    """That a home cannot be used, and the mend that fits the error."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    mend = "choose a folder you may write to, with PEGBOARD_HOME=… or --home"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "make room on its disk, or choose a folder on another, with PEGBOARD_HOME=… or --home"
    return ConfigurationError(f"PEGBOARD_HOME {root}", [f"cannot be used ({what})", mend])


def _file(server: ServerName, replica: str = "") -> str:
    # A name has no `~`: no server's files can pass for those of another's replica.
    return f"{server.namespace}.{server.name}" + (f"~{replica}" if replica else "")
