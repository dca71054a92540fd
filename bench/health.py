"""What looking at servers costs those who ask: lists and tokens with the prober on and off, and how long it takes.

    .venv/bin/python bench/health.py [--servers 2000] [--hang 0.1] [--rounds 8] [--clients 2] [--save]

A real hub and a real prober, and in place of servers one process that listens on every server's socket: most answer
as the kit does, some never, some with 500. Paced clients ask the hub's own door for the list of one person's servers
and for tokens. Phases with and without the prober follow one another in one run; read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.runtime import credentials
from pegboard_hub.runtime.isolation import Isolation, Mode
from tests.hub.company import Company, scratch

URL = "http://localhost:22000"
OPEN = 20
"""Servers that the one who lists may use; all are gone through."""

PAUSE_S = 0.05
"""Between two requests of a client."""

WELL = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"status": "ok"}'
ILL = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"


def name_of(place: int) -> str:
    """The name of one server."""
    return f"dev/s{place:05}"


def prepare(root: Path, count: int) -> Company:
    """A home with so many servers, each with a release."""
    company = Company(Home.open(root / "home"), root / "grants.toml")
    entries = []
    for place in range(count):
        name = name_of(place)
        company.deploy(name, scratch(name=name.partition("/")[2]))
        group = "ads-eng" if place < OPEN else "nobody"
        entries.append(f'[servers."{name}"]\nsource = "x"\ngroups = ["{group}"]\nsurfaces = ["cli"]\n')
    company.grants.write_text("\n".join(entries))
    credentials.issue(company.home, Isolation(Mode.OFF, "", Path(sys.executable)), [])
    return company


async def stand_in(home: Path, count: int, hang: float) -> None:
    """Every server: of twenty, one answers 500, and `hang` of all never answer."""

    async def handle(place: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if place % 1000 < hang * 1000:
                await reader.read()
            else:
                writer.write(ILL if place % 20 == 19 else WELL)
        writer.close()

    opened = []
    for place in range(count):
        path = Home.at(home).socket(ServerName.parse(name_of(place)))

        async def answer(r: asyncio.StreamReader, w: asyncio.StreamWriter, place: int = place) -> None:
            await handle(place, r, w)

        opened.append(await asyncio.start_unix_server(answer, path))
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def process(*command: str, log: Path | None = None, wait: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with contextlib.ExitStack() as stack:
        out: Any = subprocess.PIPE if wait else stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
        started = subprocess.Popen([sys.executable, *command], stdout=out, stderr=None if wait else out)
        try:
            if wait and started.stdout:
                started.stdout.readline()
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(20)
            if started.stdout:
                started.stdout.close()


def report(home: Home, count: int, since: float) -> None:
    """What the supervisor would say: all are live."""
    processes = [{"name": name_of(place), "state": "live", "since": since} for place in range(count)]
    servers = {each["name"]: "x" for each in processes}
    document = {"at": time.time(), "isolation": {"mode": "off"}, "servers": servers, "processes": processes}
    replace_file(home.status, json.dumps(document))


class Bench:
    """The clients."""

    def __init__(self, home: Home, clients: int) -> None:
        self._home = home
        self._clients = clients
        transport = httpx2.AsyncHTTPTransport(uds=str(home.hub_socket))
        self._http = httpx2.AsyncClient(transport=transport, base_url=URL, timeout=60)
        self.token = ""

    async def issue(self) -> str:
        """A token of the API's."""
        form = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": f"{URL}/api"}
        answer = await self._http.post("/oauth/token", data=form)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    async def listed(self) -> int:
        """How many servers the list has."""
        answer = await self._http.get("/api/v1/servers", headers={"authorization": f"Bearer {self.token}"})
        answer.raise_for_status()
        return len(answer.json()["servers"])

    async def phase(self, seconds: float) -> dict[str, list[float]]:
        """What each request took."""
        took: dict[str, list[float]] = {"list": [], "token": []}
        until = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                for what, ask in (("list", self.listed), ("token", self.issue)):
                    began = time.perf_counter()
                    found = await ask()
                    took[what].append(time.perf_counter() - began)
                    assert what != "list" or found == OPEN, found
                    await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(client() for _ in range(self._clients)))
        return took

    async def told(self) -> int:
        """Of how many servers the prober has told."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self._home.internal_socket))
        token = self._home.operator_token.read_text().strip()
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as http:
            answer = await http.get("/internal/v1/prober", headers={"authorization": f"Bearer {token}"})
            return int(answer.json()["servers"])

    async def states(self) -> dict[str, float]:
        """The figures of health that the hub exports."""
        token = self._home.scrape_token.read_text().strip()
        page = (await self._http.get("/metrics", headers={"authorization": f"Bearer {token}"})).text
        lines = [line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("pegboard_hub_health_")]
        return {name: float(value) for name, value in lines}

    async def ready(self) -> None:
        """Wait for the hub."""
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if (await self._http.get("/readyz")).status_code == httpx2.codes.OK:
                    break
            await asyncio.sleep(0.2)
        self.token = await self.issue()


async def run(given: argparse.Namespace, company: Company, root: Path) -> dict[str, Any]:
    """Measure and print; gives what is kept."""
    home, began = company.home, time.time()
    supervisor = asyncio.create_task(_keep(home, given.servers, began))
    hub = ("-m", "pegboard_hub.main", "--home", str(home.root), "--public-url", URL, "--grants", str(company.grants))
    prober = ("-m", "pegboard_hub.health.prober", "--home", str(home.root))
    home.prober_beat.parent.mkdir(parents=True, exist_ok=True)
    with process(*hub, log=root / "hub.log") as serving:
        bench = Bench(home, given.clients)
        await bench.ready()
        await bench.phase(3)
        taken: dict[tuple[str, str], list[float]] = {(w, s): [] for w in ("list", "token") for s in ("off", "on")}
        ratios: dict[str, list[float]] = {"list": [], "token": []}
        oldest_s, shares, told_s = [], [], 0.0
        hub_cpu: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(given.rounds):
            began_at = _cpu(serving.pid)
            off = await bench.phase(given.seconds)
            hub_cpu["off"].append((_cpu(serving.pid) - began_at) / _asked(off))
            with process(*prober, log=root / "prober.log") as running:
                if number == 0:
                    started = time.monotonic()
                    while await bench.told() < given.servers:
                        await asyncio.sleep(0.2)
                    told_s = time.monotonic() - started
                    print(f"the state of all {given.servers} servers is told after {told_s:.1f} s", flush=True)
                cpu, began_at = _cpu(running.pid), _cpu(serving.pid)
                on = await bench.phase(given.seconds)
                hub_cpu["on"].append((_cpu(serving.pid) - began_at) / _asked(on))
                shares.append((_cpu(running.pid) - cpu) / given.seconds)
                figures = await bench.states()
            for what in ratios:
                taken[what, "off"] += off[what]
                taken[what, "on"] += on[what]
                ratios[what].append(_p99(on[what]) / _p99(off[what]))
            oldest_s.append(figures["pegboard_hub_health_oldest_look_seconds"])
            told = f"longest wait of a server {oldest_s[-1]:.0f} s, prober {shares[-1]:.0%} of a core"
            print(f"round {number + 1}: {told}", flush=True)
    supervisor.cancel()
    print({name[31:]: value for name, value in figures.items() if "looks_total" in name})
    rows = [{"what": what, "ratio": round(median(ratios[what]), 2)} | _row(taken, what) for what in ratios]
    for row in rows:
        print(row)
    oldest, share = round(max(oldest_s)), round(median(shares) * 100)
    cpu_ms = {phase: round(1000 * median(each), 1) for phase, each in hub_cpu.items()}
    print(f"CPU of the hub for a request, ms: {cpu_ms}")
    return {"rows": rows, "cpu_ms": cpu_ms, "told_s": round(told_s, 1), "oldest_s": oldest, "share": share}


def _asked(took: dict[str, list[float]]) -> int:
    return sum(map(len, took.values()))


def _row(taken: dict[tuple[str, str], list[float]], what: str) -> dict[str, float]:
    cells: dict[str, Callable[[list[float]], float]] = {"p50": median, "p99": _p99}
    return {f"{cell}_{s}": round(1000 * of(taken[what, s]), 1) for cell, of in cells.items() for s in ("off", "on")}


async def _keep(home: Home, count: int, since: float) -> None:
    while True:
        await asyncio.to_thread(report, home, count, since)
        await asyncio.sleep(3)


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prepare, measure, clean up."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--servers", type=int, default=2000)
    arguments.add_argument("--hang", type=float, default=0.1)
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--clients", type=int, default=2)
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/health.json")
    arguments.add_argument("--stand-in", type=Path)
    given = arguments.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if given.stand_in:
        asyncio.run(stand_in(given.stand_in, given.servers, given.hang))
        return
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        root = Path(folder)
        company = prepare(root, given.servers)
        servers = (__file__, "--stand-in", str(company.home.root), "--servers", str(given.servers))
        with process(*servers, "--hang", str(given.hang), wait=True):
            before = keeping.load_average()
            found = asyncio.run(run(given, company, root))
    if given.save:
        asked = {name: getattr(given, name) for name in ("servers", "hang", "rounds", "clients")}
        print(keeping.save("health", [before, keeping.load_average()], **asked, **found))
    print(f"load average of the last minutes: {os.getloadavg()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
