"""Joined edges as their operators run them, and the simplest balancer in front of all edges: one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pegboard_hub.common.home import Home
from pegboard_hub.demo.wire import MODERN
from tests.ports import free_port
from tests.system.edge_rig import until
from tests.system.instance import REPOSITORY, Instance, statuses

PEGBOARD = (sys.executable, "-m", "pegboard.cli")
END_S = 30.0


@dataclass
class JoinedEdge:
    """One joined edge, which may run or not."""

    instance: Instance
    name: str
    home: Home
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, live: bool = True) -> None:
        """Start it, and wait until it serves."""
        command = [*PEGBOARD, "edge", "up", "--home", str(self.home.root), "--port", str(self.port), *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)
        if live:
            until(lambda: statuses(self.home).get("edge") == "live", f"edge {self.name} is live", self.said)
            until(self.listens, f"edge {self.name} listens", self.said)

    def listens(self) -> bool:
        """Whether a connection is taken: the status may be the last run's."""
        with socket.socket() as door:
            return door.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, in order or not; gives its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(END_S)
        self.process = None
        return status

    def said(self) -> str:
        """What `pegboard edge up` has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def client(self) -> httpx2.Client:
        """Calls this edge, under the name of all."""
        host = self.instance.public_url.partition("://")[2]
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers={"host": host}, timeout=60)

    def call(self, token: str, tool: str = "list_tables", server: str = "prod/presto") -> httpx2.Response:
        """Call a tool at this edge."""
        with self.client() as client:
            return call(client, token, tool, server)

    @property
    def word(self) -> dict[str, Any]:
        """How the hub lists it."""
        return next(each for each in listed(self.instance) if each["name"] == self.name and not each["removed_at"])


def call(
    client: httpx2.Client, token: str, tool: str = "list_tables", server: str = "prod/presto"
) -> httpx2.Response:
    """Call a tool without arguments."""
    headers = {
        **({"authorization": f"Bearer {token}"} if token else {}),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "edges", "version": "1"},
    }
    params = {"name": tool, "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return client.post(f"/mcp/{server}", json=body, headers=headers)


def works(answer: httpx2.Response) -> bool:
    """Whether a call was made and its tool answered."""
    return answer.status_code == httpx2.codes.OK and '"result"' in answer.text and '"isError":true' not in answer.text


def operate(instance: Instance, *words: str) -> subprocess.CompletedProcess[str]:
    """`pegboard edge …` at the machine of the instance."""
    command = [*PEGBOARD, "edge", *words, "--home", str(instance.home.root)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)


def listed(instance: Instance) -> list[dict[str, Any]]:
    """Every edge, as `pegboard edge list` tells."""
    found: list[dict[str, Any]] = json.loads(operate(instance, "list", "--json").stdout)
    return found


@contextmanager
def joined(instance: Instance, name: str, *options: str) -> Iterator[JoinedEdge]:
    """Add an edge, run it, and end it; it is removed from the instance then."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    edge = JoinedEdge(instance, name, Home.at(folder / "home"), free_port(), folder / "edge.log")
    file = folder / "join"
    added = operate(instance, "add", name, "--out", str(file))
    assert added.returncode == 0, added.stderr
    try:
        edge.start("--join", str(file), *options)
        file.unlink()
        yield edge
    finally:
        if edge.process is not None:
            edge.stop()
        operate(instance, "remove", name, "--why", "the test is over")
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Balancer:
    """TCP round robin on loopback: connects to the next edge, and to the one after it where nobody listens."""

    ports: list[int]
    port: int = field(default_factory=free_port)
    taken: list[int] = field(default_factory=list)
    _turn: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection's bytes on, both ways."""
        for _ in self.ports:
            port = self.ports[self._turn % len(self.ports)]
            self._turn += 1
            try:
                there, here = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            self.taken.append(port)
            await asyncio.gather(_pump(reader, here), _pump(there, writer))
            return
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


@contextmanager
def balanced(*ports: int, port: int | None = None) -> Iterator[Balancer]:
    """A balancer at work."""
    balancer = Balancer(list(ports), **({"port": port} if port else {}))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="balancer")
    thread.start()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(balancer.serve, "127.0.0.1", balancer.port), loop
    ).result(10)
    try:
        yield balancer
    finally:

        async def end() -> None:
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
