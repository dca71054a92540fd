"""Calls in bursts from this process, for what a call costs somebody else: the caller itself does next to nothing.

The upstream is a process of its own that answers a constant, so that neither it nor its cost is in the figures.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.calls import processes
from bench.calls.wire import take

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Shape:
    """How calls come.

    Attributes:
        words: for readers.
        width: calls at once, each on a connection of its own; the next come when the last is answered.
        apart_s: seconds of rest between them.
        split: whether head and body are sent one after the other, as most HTTP clients do.
    """

    words: str
    width: int
    apart_s: float = 0.0
    split: bool = False


SHAPES = {
    "ordinary": Shape("one after the other, head and then body", 1, split=True),
    "apart": Shape("one call every 4 ms", 1, 0.004),
    "one": Shape("one after the other", 1),
    "sixteen": Shape("16 at once", 16),
}


@dataclass(slots=True)
class Contestant:
    """One process that passes calls on, and what is known of it.

    Attributes:
        name: in results.
        port: on loopback.
        pid: whose CPU is counted.
        request: one whole call.
    """

    name: str
    port: int
    pid: int
    request: bytes
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, name: str, calls: int) -> None:
        """Send about so many calls in the shape of that name, and keep what they cost.

        Raises:
            RuntimeError: a call was not answered with 200.
        """
        shape = SHAPES[name]
        connections = [socket.create_connection(("127.0.0.1", self.port), timeout=30) for _ in range(shape.width)]
        try:
            for each in connections:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(WARM_UP):
                self._burst(connections, shape.split)
            bursts, before, took = max(1, calls // shape.width), on_cpu_us(self.pid), []
            for _ in range(bursts):
                time.sleep(shape.apart_s)
                took.append(self._burst(connections, shape.split))
            spent = (on_cpu_us(self.pid) - before) / (bursts * shape.width)
        finally:
            for each in connections:
                each.close()
        self.cpu_us.setdefault(name, []).append(spent)
        self.seconds.setdefault(name, []).extend(took)

    def _burst(self, connections: list[socket.socket], split: bool) -> float:
        began = time.perf_counter()
        body = self.request.index(b"\r\n\r\n") + 4
        for each in connections:
            for part in (self.request[:body], self.request[body:]) if split else (self.request,):
                each.sendall(part)
        for each in connections:
            answer = each.recv(65536)
            while (reply := take(answer)) is None:
                answer += each.recv(65536)
            if reply.status != 200:
                raise RuntimeError(f"{self.name}: {answer[:300]!r}")
        return time.perf_counter() - began

    def figures(self, beside: Contestant) -> dict[str, dict[str, float]]:
        """Of each shape: CPU a call in µs, its ratio to another's of the same rounds, and milliseconds of a burst."""
        found = {}
        for name, spent in self.cpu_us.items():
            late = sorted(self.seconds[name])
            found[name] = {
                "cpu_us": round(median(spent), 1),
                "least_us": round(min(spent), 1),
                "ratio": round(
                    median(mine / theirs for mine, theirs in zip(spent, beside.cpu_us[name], strict=True)), 2
                ),
                "p50_ms": round(1000 * median(late), 3),
                "p99_ms": round(1000 * late[len(late) * 99 // 100], 3),
            }
        return found


def on_cpu_us(pid: int) -> float:
    """Microseconds for which the threads of a process were on a core so far, to the nanosecond (schedstat)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1000


@contextmanager
def upstream(folder: Path) -> Iterator[Path]:
    """A process that answers every request with a constant, at a Unix socket in `folder`."""
    path, log = folder / "upstream.sock", folder / "upstream.log"
    command = [sys.executable, "-m", "bench.calls.bursts", str(path)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[2])
    try:
        processes.until(path.exists, "the upstream listens", log, 20)
        yield path
    finally:
        process.terminate()
        process.wait()


class _Constant(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            _, found, length = self._data[:end].lower().partition(b"\r\ncontent-length: ")
            whole = end + 4 + (int(length.partition(b"\r")[0]) if found else 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            self._transport.write(ANSWER)


async def _serve(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(_Constant, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
