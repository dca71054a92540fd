"""What a proxy before a foreign server costs: one tool called directly, behind it, and of a kit's own server.

    .venv/bin/python bench/foreign.py

One caller, one call after another, the official client in this process in all three.
CPU is of this process and of the backend's.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import anyio
import psutil
from mcp import Client, StdioServerParameters
from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool
from pegboard.testing import InMemoryHub
from tests.foreign.projects import EVERYBODY, HERE, pinned, write_project

CALLS = 400
ROUNDS = 5
BACKEND = "desk_backend.py"


@asynccontextmanager
async def direct(_: Path) -> AsyncIterator[Client]:
    """The official client on the backend's standard streams."""
    server = StdioServerParameters(command=sys.executable, args=[str(HERE / BACKEND)])
    async with Client(server) as client:
        yield client


@asynccontextmanager
async def proxied(folder: Path) -> AsyncIterator[Client]:
    """Behind the proxy: token, policy, records and pins as in production, no Envoy and no socket."""
    async with InMemoryHub(await pinned(write_project(folder / "proxied"))).client(
        "ana", groups=["ads-eng"]
    ) as client:
        yield client


@asynccontextmanager
async def own(folder: Path) -> AsyncIterator[Client]:
    """A kit's own server with the same tool."""
    server = Server()

    @server.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
    @authorize_tool(policy="everybody")
    async def echo(text: str) -> str:
        """Give back the text."""
        return text

    project = folder / "own"
    (project / "policies").mkdir(parents=True)
    (project / "policies" / "everybody.cedar").write_text(EVERYBODY)
    (project / "pegboard.toml").write_text(
        'name = "own"\nentry = "own:server"\ndescription = "d"\nowner = "platform"\nsupport_channel = "#own"\n'
        '[requests]\nbusiness_groups = ["ads-eng"]\nsurfaces = ["cli"]\n'
    )
    async with InMemoryHub(project, server).client("ana", groups=["ads-eng"]) as client:
        yield client


WAYS: dict[str, Callable[[Path], AbstractAsyncContextManager[Client]]] = {
    "direct": direct,
    "kit's own": own,
    "behind the proxy": proxied,
}


def cpu_s() -> float:
    """Of this process and all that it started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


async def measured(call: Callable[[], Awaitable[object]]) -> tuple[float, float, float]:
    """Median and 99th percentile of the time, and CPU, of a call, in µs."""
    took: list[float] = []
    began = cpu_s()
    for _ in range(CALLS):
        start = time.perf_counter()
        await call()
        took.append(time.perf_counter() - start)
    cpu = (cpu_s() - began) / CALLS
    return statistics.median(took) * 1e6, statistics.quantiles(took, n=100)[98] * 1e6, cpu * 1e6


async def main() -> None:
    """Measure each way in turn, several times, and print the medians."""
    with tempfile.TemporaryDirectory(prefix="pegboard-bench-") as name:
        os.chdir(name)
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
        for number in range(ROUNDS):
            for way, opened in WAYS.items():
                folder = Path(name) / f"{number}"
                async with opened(folder) as client:

                    async def call(client: Client = client) -> object:
                        return await client.call_tool("echo", {"text": "hello"})

                    for _ in range(50):
                        await call()
                    found[way].append(await measured(call))
        os.chdir("/")
    print(f"{'':18}{'median µs':>12}{'p99 µs':>12}{'CPU µs':>12}   ({CALLS} calls, median of {ROUNDS} rounds)")
    for way, rounds in found.items():
        median, p99, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{way:18}{median:12.0f}{p99:12.0f}{cpu:12.0f}")


if __name__ == "__main__":
    anyio.run(main)
