"""The supervisor gathers the metrics of edge, servers and processes into one file, every few seconds.

The hub serves the file beside its own metrics, and `pegboard metrics` prints it when the hub is away. What a server
says is an author's word: it counts only as far as it is of the table, under that server's name, and within bounds.
Replicas of a submitted server are told apart by release and replica: as many as run, and no more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx2

from pegboard.core.metrics import LABELS, SERVER_METRICS, UNKNOWN_TOOL
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.processes import State, Supervised
from pegboard_hub.telemetry import supervisor_table as table
from pegboard_hub.telemetry.exposition import Sample, read, write

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""How often it gathers, in seconds."""

SHARE = 0.05
"""The part of the time that gathering may take: with very many servers it is done less often."""

ANSWER_S = 2.0
"""How long a server may take for its whole page, in seconds."""

PAGE_BYTES = 1024 * 1024
"""The largest page of a server that is read; one with a hundred busy tools has some 200 KB."""

AT_ONCE = 16
"""Servers that are asked at the same time."""

MODE = 0o400
"""The file tells of every server, so the hub alone reads it."""

Edge = Callable[[], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True)
class _Page:
    """What one server's process said; None where it said nothing that can be read.

    Attributes:
        whose: the labels that say which process it is.
        tools: names that its release declares.
    """

    whose: Mapping[str, str]
    text: str | None
    tools: Collection[str]


class Gathering:
    """Gathers until cancelled."""

    def __init__(
        self,
        home: Home,
        isolation: Isolation,
        processes: Callable[[], Iterable[Supervised]],
        granted: Callable[[], int],
        edge: Edge,
    ) -> None:
        """Prepare.

        Args:
            home: the instance.
            isolation: how its servers are kept apart.
            processes: what the supervisor runs.
            granted: how many servers the grants file names.
            edge: asks the edge.
        """
        self._home = home
        self._isolation = isolation
        self._processes = processes
        self._granted = granted
        self._edge = edge
        self._tools = ToolNames()
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Gather every few seconds. No trouble ends it: the age of what is there tells."""
        while True:
            began = time.monotonic()
            try:
                await self.gather()
            except Exception:
                logger.exception("metrics could not be gathered")
            await asyncio.sleep(max(EVERY_S, (time.monotonic() - began) / SHARE))

    async def gather(self) -> None:
        """Ask everybody once, and replace the file.

        Raises:
            OSError: it cannot be written.
        """
        began = time.monotonic()
        processes = list(self._processes())
        live = [each for each in processes if each.state is State.LIVE and "/" in each.spec.name]
        pages = await asyncio.gather(*(self._ask(each) for each in live))
        edge = await self._edge()
        own = self._own(processes)
        # Reading and writing long pages takes a while; the loop goes on watching processes.
        user = self._isolation.user("hub")
        owner = (user.uid, user.gid) if user else None
        await asyncio.to_thread(self._write, [*own, *edge], pages, began, owner)

    def _write(
        self, samples: list[Sample], pages: Iterable[_Page], began: float, owner: tuple[int, int] | None
    ) -> None:
        for page in pages:
            samples += samples_of(page.whose, page.text, page.tools)
        samples.append(Sample(table.GATHERED, {}, time.time()))
        samples.append(Sample(table.GATHER_SECONDS, {}, time.monotonic() - began))
        replace_file(self._home.gathered, write(samples).decode(), MODE, owner=owner)

    def _own(self, processes: list[Supervised]) -> list[Sample]:
        servers = sum(1 for each in processes if _followed(each))
        disk = shutil.disk_usage(self._home.root)
        labels = {"version": version("pegboard-hub"), "isolation": str(self._isolation.mode)}
        return [
            Sample(table.INSTANCE_INFO, labels, 1),
            Sample(table.NOT_STARTED, {}, max(self._granted() - servers, 0)),
            Sample(table.DISK_FREE, {}, disk.free),
            Sample(table.DISK_SIZE, {}, disk.total),
            *(sample for process in processes for sample in _process(process)),
        ]

    async def _ask(self, process: Supervised) -> _Page:
        name, _, replica = process.spec.name.partition("~")
        server = ServerName.parse(name)
        async with self._asking:
            text = await ask(self._home.socket(server, replica))
        # Which release it is stands beside it, so that of a replica its number among those of that release is left.
        number = replica.rpartition("-")[2]
        whose = {"server": name, "release": process.spec.version, "replica": number}
        return _Page(whose, text, self._tools.of(process.spec.pinned or self._home.declaration(server)))


async def ask(socket: Path) -> str | None:
    """A server's page; None when it does not answer in time, or with something else, or with too much.

    No answer may keep the others from being asked, so whatever goes wrong is this server's alone.
    """
    transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=NO_TLS)
    # Nothing unpacks what it sends: a small answer could become a large one.
    headers = {"accept-encoding": "identity"}
    with suppress(Exception):
        async with (
            asyncio.timeout(ANSWER_S),
            httpx2.AsyncClient(transport=transport, headers=headers) as client,
            client.stream("GET", "http://localhost/metrics") as response,
        ):
            return await _body(response) if response.status_code == httpx2.codes.OK else None
    return None


async def _body(response: httpx2.Response) -> str | None:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > PAGE_BYTES:
            return None
    return body.decode("ascii")


def samples_of(owner: Mapping[str, str], page: str | None, tools: Collection[str]) -> list[Sample]:
    """What the page of a server's process says, under its name, and how much of it could be read.

    Args:
        owner: labels of whose page it is (`table.OF_SERVERS`); what the page says of that does not count.
        page: what it sent; None when nothing could be read.
        tools: names that its release declares.
    """
    allowed: Mapping[str, Collection[str]] = {**LABELS, "tool": {*tools, UNKNOWN_TOOL}}
    found, dropped = read(page, SERVER_METRICS, allowed, owner) if page is not None else ([], 0)
    up = Sample(table.ANSWERS, owner, 0 if page is None else 1)
    return [*found, up, Sample(table.DROPPED, owner, dropped)]


class ToolNames:
    """The tools that releases declare, from what was pinned when they were made; a file is read when it changed."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[int, frozenset[str]]] = {}

    def of(self, declaration: Path) -> frozenset[str]:
        """The tools of a release; none when its declaration cannot be read."""
        try:
            changed = declaration.stat().st_mtime_ns
            known = self._read.get(declaration)
            if known is None or known[0] != changed:
                tools = json.loads(declaration.read_bytes())["tools"]
                known = changed, frozenset(str(tool["name"]) for tool in tools)
                self._read = {path: each for path, each in self._read.items() if path.exists()}  # of what still is
                self._read[declaration] = known
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()
        return known[1]


def _followed(process: Supervised) -> bool:
    """Whether it is the one process of a server that is followed from a folder."""
    return "/" in process.spec.name and not process.spec.server


def _process(process: Supervised) -> list[Sample]:
    name = {"process": process.spec.name}
    samples = [
        Sample(table.PROCESS_UP, name, 1 if process.state is State.LIVE else 0),
        Sample(table.PROCESS_RESTARTS, name, process.restarts),
        Sample(table.PROCESS_SINCE, name, process.since),
    ]
    if process.spec.memory_mb is not None:
        samples.append(Sample(table.PROCESS_MEMORY_LIMIT, name, process.spec.memory_mb * 2**20))
    if process.pid is not None:
        pids = list(procfs.tree(process.pid))
        samples.append(Sample(table.PROCESS_MEMORY, name, sum(procfs.private_memory(pid) for pid in pids)))
        samples.append(Sample(table.PROCESS_CPU, name, sum(procfs.cpu_seconds(pid) for pid in pids)))
    return samples
