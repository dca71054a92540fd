"""What the gateways have in common: the bare SDK server behind, one process before it, both counted."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.calls import processes
from bench.calls.rivals.sdk import start_echo


class Gateway:
    """The two processes of a gateway; what is its own, a rival of it adds."""

    def __init__(self) -> None:
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def processes(self) -> Mapping[str, list[int]]:
        """Gateway and server."""
        assert self._process is not None
        assert self._server is not None
        return {"gateway": [self._process.pid], "server": [self._server.pid]}

    def stop(self) -> None:
        """End both."""
        for process in filter(None, (self._process, self._server)):
            processes.stop(process)

    def _start_server(self, folder: Path) -> str:
        """Start the server behind, and choose the gateway's port; the URL to pass calls on to."""
        behind = processes.free_port()
        self._server = start_echo(behind, folder)
        processes.until(lambda: processes.listens(behind), "the SDK server listens", folder / "echo.log")
        self._port = processes.free_port()
        return f"http://127.0.0.1:{behind}/mcp"
