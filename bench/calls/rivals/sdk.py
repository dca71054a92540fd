"""The official SDK alone: nobody is authenticated, authorized or written down."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.calls import processes
from bench.calls.peers import REPOSITORY
from bench.calls.rival import Target

ECHO = REPOSITORY / "bench" / "echo"


def start_echo(where: str | int, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the SDK's echo server at a port or Unix socket, with the packages that Pegboard's own servers have."""
    command = [sys.executable, str(ECHO / "with_mcp.py"), str(where), *options]
    return processes.start(command, folder / "echo.log", processes.private(folder), folder)


class SdkServer:
    """The bare SDK server, as `pip install mcp` runs it, or on the faster event loop and parser."""

    eras: tuple[str, ...] = ("modern", "legacy")
    peer = ""

    def __init__(self, fast: bool = False) -> None:
        self.name = "mcp-fast" if fast else "mcp"
        self.label = "Bare `mcp` server" + (" on uvloop and httptools" if fast else "")
        self._options = ("--fast",) if fast else ()
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start it on a port."""
        self._port = processes.free_port()
        self._process = start_echo(self._port, folder, *self._options)
        processes.until(lambda: processes.listens(self._port), "the SDK server listens", folder / "echo.log")

    def target(self) -> Target:
        """Its endpoint."""
        return Target(self._port)

    def processes(self) -> Mapping[str, list[int]]:
        """One process."""
        assert self._process is not None
        return {"server": [self._process.pid]}

    def versions(self) -> Mapping[str, str]:
        """The SDK's."""
        return {name: importlib.metadata.version(name) for name in ("mcp", "uvicorn")}

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            processes.stop(self._process)
