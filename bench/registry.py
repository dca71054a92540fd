"""What a registry of 10,000 servers, ten releases and twenty tools each, answers, and a change's way to the edge.

    .venv/bin/python bench/registry.py [--servers 10000] [--people 100000] [--seconds 8] [--home DIR] [--save]

The hub is its own process behind a real Envoy with its agent, on SQLite; no server runs. 32 clients in a process of
their own keep their connections and send the next request when the last was answered, each time as another person.
CPU is that of hub and Envoy. Beside it, in this process and on the same database: a search by SQL `LIKE`.

A home that is given is filled once and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench import keeping
from bench.calls import processes
from bench.governed.filling import NOUNS, TEAMS, VERBS, declaration, fill, name_of, team
from pegboard.core.names import ServerName, api_audience
from pegboard.core.scopes import SCOPE_API, SCOPE_TOOLS
from pegboard.core.stops import Stops
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.issue import Bearer, TokenIssuer
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.person import PersonFacts

CLIENTS = 32
WARM_S = 12.0
CHANGES = 6
CHANGED = "dev/changed-often"
REPOSITORY = Path(__file__).resolve().parents[1]
HEADERS = "accept: application/json\r\ncontent-type: application/json\r\nhost: localhost"


def groups_of(person: int) -> tuple[str, ...]:
    """A person's groups: everybody's, three teams and a role."""
    return ("everyone", team(person), team(person * 3 + 1), team(person // TEAMS), f"role-{person % 40}")


def main() -> None:
    """Print a row for each question and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--servers", type=int, default=10_000)
    arguments.add_argument("--people", type=int, default=100_000)
    arguments.add_argument("--seconds", type=float, default=8.0, help="of each question")
    arguments.add_argument("--home", type=Path, help="a home to fill once and use again")
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/registry.json")
    options = arguments.parse_args()
    before = keeping.load_average()
    with ExitStack() as stack:
        folder = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp")))
        home = Home.open(folder)
        if not home.database.exists():
            print(f"filled in {asyncio.run(fill(home, options.servers)):.0f} s", flush=True)
        running = stack.enter_context(instance(home))
        print(f"hub ready in {running.started_s:.1f} s, edge in {running.edge_s:.1f} s", flush=True)
        result = asyncio.run(measure(running, options.servers, options.people, options.seconds))
        result |= {"started_s": round(running.started_s, 1), "edge_s": round(running.edge_s, 1)}
    if options.save:
        sizes = {"servers": options.servers, "people": options.people, "clients": CLIENTS}
        print(keeping.save("registry", [before, keeping.load_average()], **sizes, **result))


@dataclass(frozen=True)
class Running:
    """A hub behind an edge.

    Attributes:
        started_s: seconds until the hub was ready; `edge_s` until Envoy was, after that.
        grants: the operator's file.
    """

    home: Home
    port: int
    hub: int
    envoy: int
    agent: int
    started_s: float
    edge_s: float
    grants: Path

    @property
    def url(self) -> str:
        """Of the edge."""
        return f"http://localhost:{self.port}"


@contextmanager
def instance(home: Home) -> Iterator[Running]:
    """The processes, ended afterwards."""
    port, folder = processes.free_port(), home.root
    url, grants, log = f"http://localhost:{port}", folder / "bench.toml", home.log("bench")
    home.add_server(ServerName.parse(CHANGED))
    declared = declaration(1)
    renamed = declared.manifest.model_copy(update={"name": CHANGED.partition("/")[2]})
    changed = declared.model_copy(update={"manifest": renamed, "tools": declared.tools[:1]})
    replace_file(home.declaration(ServerName.parse(CHANGED)), changed.model_dump_json())
    replace_file(grants, _grants("team-1"))
    environment = processes.private(folder, PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    hub = [sys.executable, "-m", "pegboard_hub.main", "--home", str(home.root), "--public-url", url]
    started = []
    try:
        began = time.monotonic()
        started.append(processes.start([*hub, "--grants", str(grants)], log, environment, REPOSITORY))
        processes.until(lambda: _listens(home.hub_socket), "the hub listens", log)
        ready = time.monotonic()
        agent = [sys.executable, str(Path(__file__).parent / "governed" / "edge.py"), str(home.root), url, str(port)]
        started.append(processes.start(agent, log, environment, REPOSITORY))
        processes.until(lambda: _answers(url), "the edge answers", log)
        edge_s = time.monotonic() - ready
        (envoy,) = set(processes.members({"edge": [started[1].pid]})["edge"]) - {started[1].pid}
        yield Running(home, port, started[0].pid, envoy, started[1].pid, ready - began, edge_s, grants)
    finally:
        for process in reversed(started):
            processes.stop(process)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def _grants(group: str) -> str:
    return f'[servers."{CHANGED}"]\nsource = "x"\ngroups = ["{group}"]\nsurfaces = ["cli"]\nreason = "bench"\n'


# What is asked


def questions(servers: int) -> dict[str, Callable[[random.Random], bytes]]:
    """Requests by what they ask."""

    def get(path: str) -> bytes:
        return f"GET /api/v1{path} HTTP/1.1\r\n{HEADERS}\r\n".encode()

    def post(path: str, body: Any) -> bytes:
        text = json.dumps(body)
        return f"POST /api/v1{path} HTTP/1.1\r\n{HEADERS}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()

    def question(dice: random.Random) -> dict[str, str]:
        number = dice.randrange(servers)
        return {"server": name_of(number), "tool": declaration(number).tools[number % 20].name}

    kept = [question(random.Random(number)) for number in range(500)]

    def words(dice: random.Random) -> str:
        one = dice.choice(NOUNS)
        return quote(
            dice.choice((one, one[:4], f"{dice.choice(VERBS)} {one}", team(dice.randrange(TEAMS)), f"{one}_1"))
        )

    def open_to_all(dice: random.Random) -> str:
        return name_of(dice.randrange(servers // 100) * 100)

    def batch(dice: random.Random) -> dict[str, Any]:
        return {"questions": [dice.choice(kept) for _ in range(20)]}

    narrow = "namespace=prod&sensitivity=internal"
    return {
        "list, 20 of what I may use": lambda _: get("/servers?limit=20"),
        "the same without their tools": lambda _: get("/servers?limit=20&tools=false"),
        "list, 20 of all": lambda _: get("/servers?limit=20&all=true"),
        "search, 20 of all": lambda dice: get(f"/servers?all=true&limit=20&q={words(dice)}"),
        "search without tools": lambda dice: get(f"/servers?all=true&limit=20&tools=false&q={words(dice)}"),
        "search with filters": lambda dice: get(f"/servers?all=true&limit=20&{narrow}&q={words(dice)}"),
        "one server": lambda dice: get(f"/servers/{open_to_all(dice)}"),
        "its tools": lambda dice: get(f"/servers/{open_to_all(dice)}/tools"),
        "access check": lambda dice: post("/access:check", dice.choice(kept)),
        "access check, 20 at once": lambda dice: post("/access:check", batch(dice)),
        "official list, 30": lambda _: f"GET /v0.1/servers?limit=30 HTTP/1.1\r\n{HEADERS}\r\n".encode(),
    }


# Who asks


def client(port: int, requests: list[bytes], seconds: float, told: Any) -> None:
    """A process of clients. Tells the milliseconds of each answer, and statuses that were not expected."""

    async def one(number: int, until: float, took: list[float], faults: dict[int, int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        at = number
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(requests[at % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            await _body(reader, head.lower())
            took.append((time.perf_counter() - began) * 1000)
            if (status := int(head[9:12])) != 200:
                faults[status] = faults.get(status, 0) + 1
            at += CLIENTS
        writer.close()

    async def all_of_them() -> None:
        took: list[float] = []
        faults: dict[int, int] = {}
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(number, until, took, faults) for number in range(CLIENTS)))
        told.put((took, faults))

    asyncio.run(all_of_them())


async def _body(reader: asyncio.StreamReader, head: bytes) -> None:
    length = head.partition(b"content-length:")[2].partition(b"\r")[0]
    if length:
        await reader.readexactly(int(length))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


async def measure(running: Running, servers: int, people: int, seconds: float) -> dict[str, Any]:
    """All rows."""
    keys = open_keys(running.home)
    issuer = TokenIssuer(keys.tokens, running.url, lambda _: True, stops=Stops)
    began = time.monotonic()
    tokens = [_token(issuer, running.url, number) for number in range(people)]
    print(f"{people:,} tokens in {time.monotonic() - began:.0f} s", flush=True)
    memory = {"at rest": round(processes.memory_mib([running.hub]), 1)}
    rows = []
    print(f"{'':32}{'a second':>9}{'p50 ms':>9}{'p99 ms':>9}{'hub µs':>9}{'edge µs':>9}")
    for what, ask in questions(servers).items():
        dice = random.Random(what)
        order = [dice.randrange(people) for _ in range(20_000)]
        requests = [_signed(ask(dice), tokens[person], what) for person in order]
        _ask(running.port, requests, WARM_S)
        spent = [processes.cpu_us([pid]) for pid in (running.hub, running.envoy)]
        took, faults = _ask(running.port, requests[::-1], seconds)
        spent = [processes.cpu_us([pid]) - was for pid, was in zip((running.hub, running.envoy), spent, strict=True)]
        took.sort()
        row: dict[str, Any] = {
            "what": what,
            "rate": round(len(took) / seconds, 1),
            "p50_ms": round(took[len(took) // 2], 1),
            "p99_ms": round(took[int(len(took) * 0.99)], 1),
            "hub_us": round(spent[0] / len(took)),
            "edge_us": round(spent[1] / len(took)),
            "faults": faults,
        }
        rows.append(row)
        told = "  " + str(faults) if faults else ""
        print(
            "{what:32}{rate:9,.0f}{p50_ms:9.1f}{p99_ms:9.1f}{hub_us:9,}{edge_us:9,}".format(**row) + told, flush=True
        )
    memory["after the run"] = round(processes.memory_mib([running.hub]), 1)
    like = _like(running.home.database)
    print(f"SQL LIKE: p50 {like['p50_ms']} ms, p99 {like['p99_ms']} ms of one core a search", flush=True)
    parts = {"hub": running.hub, "agent": running.agent, "envoy": running.envoy}
    used = {part: processes.cpu_us([pid]) for part, pid in parts.items()}
    changes = [_change(running, issuer, number) for number in range(CHANGES)]
    cpu = {part: round((processes.cpu_us([pid]) - used[part]) / CHANGES / 1e6, 2) for part, pid in parts.items()}
    print("change at the edge after s:", *changes, " CPU s:", cpu, " hub MiB:", memory, flush=True)
    return {"rows": rows, "memory_mib": memory, "like": like, "changes_s": changes, "change_cpu_s": cpu}


def _signed(request: bytes, token: str, what: str) -> bytes:
    """The request with a person's token; the official list is anonymous."""
    head, _, body = request.partition(b"\r\n\r\n")
    head = head.rstrip(b"\r\n")
    if not what.startswith("official"):
        head += f"\r\nauthorization: Bearer {token}".encode()
    return head + b"\r\n\r\n" + body


def _ask(port: int, requests: list[bytes], seconds: float) -> tuple[list[float], dict[int, int]]:
    context = get_context("fork")
    told = context.Queue()
    process = context.Process(target=client, args=(port, requests, seconds, told))
    process.start()
    found: tuple[list[float], dict[int, int]] = told.get(timeout=seconds + 60)
    process.join()
    return found


def _token(issuer: TokenIssuer, url: str, number: int, resource: str = "", groups: tuple[str, ...] = ()) -> str:
    name = f"person-{number}"
    person = PersonFacts(name, name, groups or groups_of(number), f"{name}@example.com")
    bearer = Bearer(person, client_id="pegboard-cli", surface="cli", sid=f"{number:032x}")
    scope = SCOPE_TOOLS if resource else SCOPE_API
    return issuer.issue(bearer, resource or api_audience(url), scope).access_token


def _change(running: Running, issuer: TokenIssuer, number: int) -> float:
    """Let another group into one server, and out again: seconds from the saved file to the edge's other answer."""
    resource = ServerName.parse(CHANGED).resource_url(running.url)
    token = _token(issuer, running.url, 1, resource, ("team-1",))
    given = number % 2 == 1
    with httpx2.Client(timeout=30, trust_env=False) as http:
        headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        replace_file(running.grants, _grants("team-1" if given else "team-2"))
        began = time.monotonic()
        while (http.post(resource, json=message, headers=headers).status_code == 403) == given:
            time.sleep(0.005)
            if time.monotonic() - began > 60:
                raise TimeoutError("the change did not reach the edge")
        return round(time.monotonic() - began, 2)


def _like(database: Path) -> dict[str, float]:
    """What a search by SQL would take, of metadata and the names of tools, without asking who may know them."""
    sql = (
        "SELECT name FROM servers s WHERE name LIKE :w OR title LIKE :w OR description LIKE :w OR EXISTS"
        " (SELECT 1 FROM tools t WHERE t.server = s.name AND t.release = s.release"
        " AND (t.name LIKE :w OR t.title LIKE :w)) ORDER BY name LIMIT 20"
    )
    dice, took = random.Random("like"), []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        for _ in range(40):
            word = dice.choice((*NOUNS, team(dice.randrange(TEAMS)), "zebra"))
            began = time.perf_counter()
            connection.execute(sql, {"w": f"%{word}%"}).fetchall()
            took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return {"p50_ms": round(took[len(took) // 2], 1), "p99_ms": round(took[-1], 1)}


if __name__ == "__main__":
    main()
