"""FastMCP: its server, and its proxy with one client that all calls share."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.calls import peers, processes
from bench.calls.rival import Target
from bench.calls.rivals.gateway import Gateway
from bench.calls.rivals.sdk import ECHO

_QUIET = {"FASTMCP_CHECK_FOR_UPDATES": "off"}


class FastMcpServer:
    """The echo tool on FastMCP alone, ungoverned."""

    name = "fastmcp"
    label = "FastMCP server"
    eras: tuple[str, ...] = ("modern", "legacy")
    peer = "fastmcp"

    def __init__(self) -> None:
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start it on a port."""
        self._port = processes.free_port()
        self._process = _python(folder, "with_fastmcp.py", str(self._port))
        processes.until(lambda: processes.listens(self._port), "FastMCP listens", folder / "fastmcp.log")

    def target(self) -> Target:
        """Its endpoint."""
        return Target(self._port)

    def processes(self) -> Mapping[str, list[int]]:
        """One process."""
        assert self._process is not None
        return {"server": [self._process.pid]}

    def versions(self) -> Mapping[str, str]:
        """FastMCP's, and the SDK's under it."""
        return peers.pinned("fastmcp", "fastmcp", "mcp")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            processes.stop(self._process)


class FastMcpProxy(Gateway):
    """FastMCP's proxy before the bare SDK server. Its documented default builds a client for every call."""

    name = "fastmcp-proxy"
    label = "FastMCP proxy, shared client"
    eras: tuple[str, ...] = ("modern",)
    peer = "fastmcp"

    def start(self, folder: Path) -> None:
        """Start the server, then the proxy, which connects to it."""
        upstream_url = self._start_server(folder)
        self._process = _python(folder, "fastmcp_proxy.py", str(self._port), upstream_url)
        processes.until(lambda: processes.listens(self._port), "the proxy listens", folder / "fastmcp.log")

    def target(self) -> Target:
        """The proxy's endpoint."""
        return Target(self._port)

    def versions(self) -> Mapping[str, str]:
        """FastMCP's, and the SDK's under it."""
        return peers.pinned("fastmcp", "fastmcp", "mcp")


def _python(folder: Path, script: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(peers.environment("fastmcp") / "python"), str(ECHO / script), *arguments]
    return processes.start(command, folder / "fastmcp.log", processes.private(folder, **_QUIET), folder)
