"""A detached instance of its own for a bench, ended and removed afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from pegboard_hub.common.home import Home
from pegboard_hub.common.settings import DEMO
from pegboard_hub.identity.demo import DEMO_GRANT
from tests.ports import free_port
from tests.system.instance import REPOSITORY

COMMAND = [sys.executable, "-m", "pegboard.cli"]


class Instance:
    """A running instance.

    Attributes:
        home: its folder.
        port: of its edge, on loopback.
        url: its origin.
    """

    def __init__(self, home: Path, port: int) -> None:
        self.home = Home.open(home)
        self.port = port
        self.url = f"http://localhost:{port}"

    def token(self, person: str, server: str) -> str:
        """A demo person's token for one server, on the command line's surface."""
        resource = f"{self.url}/mcp/{server}"
        form = {"grant_type": DEMO_GRANT, "person": person, "surface": "cli", "resource": resource}
        answer = httpx2.post(f"{self.url}/oauth/token", data=form)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def processes(self) -> dict[str, int]:
        """Process ids by name: hub, edge, each server and the supervisor, which holds the edge's agent."""
        status: dict[str, Any] = json.loads(self.home.status.read_text(encoding="utf-8"))
        found = {process["name"]: process["pid"] for process in status["processes"]}
        return found | {"supervisor": status["supervisor"]["pid"]}


def _without_limits(place: Path) -> Path:
    """The demo's grants with rates that are in force and never reached: a bench asks more than anybody would."""
    text = (DEMO / "grants.toml").read_text(encoding="utf-8")
    there = re.sub(r'^source = "(.+)"$', lambda found: f'source = "{(DEMO / found[1]).resolve()}"', text, flags=re.M)
    limits = "\n[limits]\naddress = 10_000_000\naddress_in_all = 0\nperson = 10_000_000\nserver = 10_000_000\n"
    file = place / "grants.toml"
    file.write_text(there + limits, encoding="utf-8")
    return file


@contextmanager
def detached(*options: str, folder: Path | None = None) -> Iterator[Instance]:
    """`pegboard up --detach` with `options`, in a folder of its own under /tmp unless one is given."""
    place = folder or Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    # The instance's parts run as users of their own, which must reach it.
    place.chmod(0o755)
    port = free_port()
    at = ["--home", str(place / "home")]
    if "--grants" not in options:
        options = (*options, "--grants", str(_without_limits(place)))
    try:
        up = [*COMMAND, "up", "--detach", "--quiet", *at, "--port", str(port), *options]
        subprocess.run(up, check=True, cwd=REPOSITORY)
        yield Instance(place / "home", port)
    finally:
        subprocess.run([*COMMAND, "down", *at], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(place, ignore_errors=True)
