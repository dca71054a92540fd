"""A whole Pegboard as its users start it: `pegboard up` in a process of its own, on its own port and home."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx2

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.packages.wheel import kit_wheel
from pegboard_hub.runtime.isolation import _own_python
from pegboard_hub.runtime.releases import FORMAT
from pegboard_hub.runtime.source import Source
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
EXPECTED: Set[str] = {"hub", "edge", "prober", "prod/presto", "dev/scratch"}
"""The processes of an instance with the demo's grants."""

START_S = 240.0
"""A first start builds the servers' environments, which may have to be downloaded."""


@dataclass(frozen=True)
class Instance:
    """A running instance."""

    public_url: str
    home: Home
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """What `pegboard up` has printed."""
        return self.log.read_text(encoding="utf-8")

    def token(
        self, person: str, server: str = "prod/presto", surface: str = "cli", lifetime_s: int | None = None
    ) -> str:
        """A demo person's token for one server, or for `api`; of a shorter life where one is given."""
        resource = f"{self.public_url}/api" if server == "api" else f"{self.public_url}/mcp/{server}"
        form = {"grant_type": DEMO_GRANT, "person": person, "surface": surface, "resource": resource}
        form |= {"lifetime": str(lifetime_s)} if lifetime_s else {}
        response = httpx2.post(f"{self.public_url}/oauth/token", data=form, timeout=60)
        response.raise_for_status()
        return str(response.json()["access_token"])


@contextmanager
def running(
    *options: str,
    expected: Set[str] = EXPECTED,
    home: Path | None = None,
    port: int | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    public_url: str = "",
    before: Sequence[str] = (),
) -> Iterator[Instance]:
    """Start `pegboard up` with `options`, wait until it serves, and end it with everything it started.

    `expected` names the processes that must be live. A home that is given stays there. `variables` are set beside the
    environment's. `public_url` is where callers reach it, where that is not the edge's own address. `before` is a
    command that becomes `pegboard up`.
    """
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    made = [ServerName.parse(name) for name in sorted(MADE_ONCE & expected)] if home is None else []
    home, port = home or folder / "home", port or free_port()
    for server in made:
        _take_made(server, Home.open(home))
    log = (folder / "up.log").open("wb")
    command = [*before, sys.executable, "-m", "pegboard.cli", "up", "--no-story", *options]
    command += ["--home", str(home), "--port", str(port)]
    command += ["--public-url", public_url] if public_url else []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=REPOSITORY)
    try:
        instance = Instance(public_url or f"http://localhost:{port}", Home.open(home), process, folder / "up.log")
        _wait_until_live(instance, folder / "up.log", expected)
        for server in made:
            _keep_made(server, instance.home)
        yield instance
    finally:
        _end(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


MADE_ONCE: Set[str] = {"prod/presto", "dev/scratch"}
"""Servers of this repository whose releases the first instance of a process makes, and others have a copy of.

That saves seconds of computing each. A start looks at a copy as at what its own last start left, and makes it anew if
it is not right.
"""

_MADE: list[Path] = []


def _made() -> Path:
    """The folder of what was made; it goes with this process."""
    if not _MADE:
        _MADE.append(Path(tempfile.mkdtemp(prefix="pgbmade", dir="/tmp")))
        atexit.register(shutil.rmtree, _MADE[0], ignore_errors=True)
    return _MADE[0]


def _stamp(server: ServerName, home: Home) -> str:
    """What a start of `home` wants to see of a release that it need not make."""
    source = Source.read(REPOSITORY / "servers" / server.name)
    return source.digest(FORMAT, str(_own_python()), str(home.release(server)), kit_wheel().digest) + "\n"


def _keep_made(server: ServerName, home: Home) -> None:
    target, release = _made() / server.name, home.release(server)
    stamp = release / "made-from.sha256"
    if not target.exists() and stamp.exists() and stamp.read_text() == _stamp(server, home):
        _copy(release, target)


def _take_made(server: ServerName, home: Home) -> None:
    if (found := _made() / server.name).exists():
        home.release(server).parent.mkdir(parents=True, exist_ok=True)
        _copy(found, home.release(server))
        replace_file(home.release(server) / "made-from.sha256", _stamp(server, home))


def _copy(folder: Path, target: Path) -> None:
    """With times and rights: compiled files are looked at by them."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(folder), str(target)], check=True)


def statuses(home: Home) -> dict[str, str]:
    """State of each process by name, as the supervisor says; empty while it says nothing."""
    try:
        status = json.loads(home.status.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {process["name"]: process["state"] for process in status["processes"]}


def _wait_until_live(instance: Instance, log: Path, expected: Set[str]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if instance.process.poll() is not None:
            raise AssertionError(f"pegboard up ended with {instance.process.returncode}:\n{log.read_text()}")
        states = statuses(instance.home)
        if states.keys() >= expected and set(states.values()) == {"live"} and _answers(instance.public_url):
            return
        time.sleep(0.1)
    raise AssertionError(
        f"pegboard up was not ready within {START_S} s: {statuses(instance.home)}\n{log.read_text()}"
    )


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz").status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
