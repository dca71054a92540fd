"""The same author's way without Pegboard: with FastMCP by hand, and behind ContextForge, as far as they run here.

    .venv/bin/python bench/elsewhere.py [--save]

Fay has the same two tools; ana may call one of them, sam neither. Each step that she does is a row: a file that she
writes (not timed: only its lines are counted), or a command or request (timed until it has done what it is for). The
versions are those of `bench/peers/`. What she would have to do beyond this run (a host, TLS, restarts, sign-in of
people by the company's login, a record) is no row: docs/comparison.md names it. ToolHive wants a cluster and is not
run. Installing and starting ContextForge is the operator's: it is a row, and not in her sum.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench import keeping
from bench.calls import peers, processes
from bench.calls.rivals import contextforge
from bench.calls.rivals.contextforge import ContextForge
from pegboard.cli.author.uv import find_uv
from pegboard.core.jose import Signer, new_private_key, public_jwks

TOOLS = '''
@mcp.tool{query}
def sales_query(office: str) -> float:
    """Sales of one office."""
    return sum(float(row["amount"]) for row in ROWS if row["office"] == office)


@mcp.tool{best}
def sales_best_day() -> str:
    """The day with the highest sales."""
    days = {{row["day"]: 0.0 for row in ROWS}}
    for row in ROWS:
        days[row["day"]] += float(row["amount"])
    return max(days, key=days.__getitem__)


if __name__ == "__main__":
    mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]))
'''
HEAD = """import csv
import sys
from pathlib import Path

from fastmcp import FastMCP
{imports}
ROWS = list(csv.DictReader(Path("sales.csv").open()))
{setup}
"""
GOVERNED = '''
LOGIN = JWTVerifier(jwks_uri=sys.argv[2], issuer="https://login.example.com", audience="sales", algorithm="ES256")
mcp = FastMCP("sales", auth=LOGIN)


def of(*groups):
    """Whether the caller is in one of these groups, as the login says."""
    return lambda context: bool(context.token and set(groups) & set(context.token.claims.get("groups", [])))

'''
IMPORTS = "from fastmcp.server.auth.providers.jwt import JWTVerifier\n"
PROJECT = '[project]\nname = "sales"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = ["fastmcp"]\n'
DATA = "day,office,amount\n2026-03-02,berlin,412.50\n2026-03-02,lisbon,230.00\n2026-03-03,berlin,571.25\n"


CLIENT = """import asyncio
import json
import sys

from fastmcp import Client


async def main(url, token, tool, arguments):
    async with Client(url, auth=token) as client:
        print([each.name for each in await client.list_tools()])
        print((await client.call_tool(tool, json.loads(arguments))).data)


asyncio.run(main(*sys.argv[1:]))
"""


class Steps:
    """What somebody does, in order.

    Attributes:
        rows: each with its seconds, or its lines where something was written.
    """

    def __init__(self, who: str, folder: Path) -> None:
        self.who, self.folder = who, folder
        self.rows: list[dict[str, Any]] = []

    def write(self, name: str, text: str) -> None:
        """Write one file by hand."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self._told(
            {"step": f"write {name}", "lines": len(text.strip().splitlines())}, f"{len(text.splitlines())} lines"
        )

    @contextmanager
    def step(self, what: str, by: str = "author") -> Iterator[None]:
        """Time one step."""
        began = time.monotonic()
        yield
        seconds = round(time.monotonic() - began, 1)
        self._told({"step": what, "by": by, "seconds": seconds}, f"{seconds:.1f} s")

    def _told(self, row: dict[str, Any], figure: str) -> None:
        self.rows.append({"with": self.who, "by": "author", **row})
        print(f"{self.who:14} {row['step']:66} {figure:>9}", flush=True)


def main() -> None:
    """Print a row for each step of each way, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/elsewhere.json")
    given = arguments.parse_args()
    before, rows = keeping.load_average(), []
    for play in (by_hand, behind_contextforge):
        with tempfile.TemporaryDirectory(prefix="pegboard-elsewhere-") as folder:
            steps = play(Path(folder))
        mine = [row for row in steps.rows if row["by"] == "author"]
        waited, lines = (round(sum(row.get(what, 0) for row in mine), 1) for what in ("seconds", "lines"))
        print(f"{steps.who:14} {len(mine)} steps of hers, {lines} lines, {waited} s\n")
        rows += steps.rows
    if given.save:
        versions = {name: peers.pinned(name, package)[package] for name, package in PACKAGES.items()}
        print(keeping.save("elsewhere", [before, keeping.load_average()], rows=rows, versions=versions))


PACKAGES = {"fastmcp": "fastmcp", "contextforge": "mcp-contextforge-gateway"}


def by_hand(folder: Path) -> Steps:
    """FastMCP, its check of tokens, and a check of groups at each tool. The login is a key of this run's own."""
    steps = Steps("FastMCP", folder)
    (folder / "sales.csv").write_text(DATA)
    query, best = '(auth=of("finance", "ads-eng"))', '(auth=of("finance"))'
    steps.write("server.py", HEAD.format(imports=IMPORTS, setup=GOVERNED) + TOOLS.format(query=query, best=best))
    steps.write("pyproject.toml", PROJECT)
    python = _installed(steps)
    key, port, login_port = new_private_key(), processes.free_port(), processes.free_port()
    (folder / "jwks.json").write_text(json.dumps(public_jwks(key)))
    serving = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(login_port)]
    login = processes.start(serving, folder / "login.log", processes.private(folder), folder)
    command = [str(python), "server.py", str(port), f"http://127.0.0.1:{login_port}/jwks.json"]
    quiet = processes.private(folder, FASTMCP_CHECK_FOR_UPDATES="off")
    server = None
    try:
        with steps.step("run it, until it listens"):
            server = processes.start(command, folder / "log", quiet, folder)
            processes.until(lambda: processes.listens(port), "FastMCP listens", folder / "log")
        steps.write("try.py", CLIENT)
        ana, sam = (_token(key, *each) for each in (("ana", "ads-eng"), ("sam", "search-eng")))
        asking = [str(python), "try.py", f"http://127.0.0.1:{port}/mcp"]
        with steps.step("ana calls it with her token", by="ana"):
            assert _works([*asking, ana, "sales_query", '{"office": "berlin"}'], folder)
        with steps.step("ana is refused what is finance's, and sam both", by="ana"):
            assert not _works([*asking, ana, "sales_best_day", "{}"], folder)
            assert not _works([*asking, sam, "sales_query", '{"office": "berlin"}'], folder)
    finally:
        for process in (login, server):
            if process is not None:
                processes.stop(process)
    return steps


def behind_contextforge(folder: Path) -> Steps:
    """A FastMCP server without checks, in a team of ContextForge: a virtual server for each set of people."""
    steps = Steps("ContextForge", folder)
    (folder / "sales.csv").write_text(DATA)
    steps.write(
        "server.py", HEAD.format(imports="", setup='mcp = FastMCP("sales")\n\n') + TOOLS.format(query="", best="")
    )
    steps.write("pyproject.toml", PROJECT)
    python, port = _installed(steps), processes.free_port()
    quiet = processes.private(folder, FASTMCP_CHECK_FOR_UPDATES="off")
    server, gateway = None, Forge()
    try:
        with steps.step("run it, until it listens"):
            server = processes.start([str(python), "server.py", str(port)], folder / "log", quiet, folder)
            processes.until(lambda: processes.listens(port), "FastMCP listens", folder / "log")
        with steps.step("install and start ContextForge, and make people's accounts", by="operator"):
            gateway.begin(folder)
        gateway.register(steps, f"http://127.0.0.1:{port}/mcp")
        with steps.step("ana calls it with her token", by="ana"):
            assert gateway.call("ana", "readers", "sales-sales-query", {"office": "berlin"}) == 200
        with steps.step("ana is refused what is finance's, and sam both", by="ana"):
            assert gateway.call("ana", "finance", "sales-sales-best-day", {}) == 403
            assert gateway.call("sam", "readers", "sales-sales-query", {"office": "berlin"}) == 403
    finally:
        gateway.stop()
        if server is not None:
            processes.stop(server)
    return steps


def _installed(steps: Steps) -> Path:
    """The Python of an environment with what the project names, as pinned for these benches."""
    uv, environment = find_uv(), steps.folder / ".venv"
    pins = peers.REPOSITORY / "bench" / "peers" / "fastmcp.txt"
    python = environment / "bin" / "python"
    with steps.step("install what it names, from warm caches"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", pins], check=True)
    return python


def _token(key: Any, person: str, group: str) -> str:
    now = int(time.time())
    claims = {"iss": "https://login.example.com", "aud": "sales", "sub": person, "groups": [group]}
    return Signer(key).sign({**claims, "iat": now, "exp": now + 600}, "JWT")


def _works(command: list[str], folder: Path) -> bool:
    environment = processes.private(folder, FASTMCP_CHECK_FOR_UPDATES="off")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    refused = "Unknown tool" in done.stderr or "ToolError" in done.stderr or "not authorized" in done.stderr.lower()
    if done.returncode and not refused:
        raise RuntimeError(done.stderr)
    return done.returncode == 0


class Forge(ContextForge):
    """ContextForge with two teams: fay and ana are readers, fay alone is finance."""

    def begin(self, folder: Path) -> None:
        """Install and start it, with accounts for the three."""
        binaries = peers.environment("contextforge")
        self._binaries, self._folder, self._port = binaries, folder, processes.free_port()
        self._settings = processes.private(folder, **contextforge.settings(folder))
        command = [str(binaries / "mcpgateway"), "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = processes.start(command, folder / "contextforge.log", self._settings, folder)
        processes.until(self._ready, "ContextForge answers", folder / "contextforge.log", 600)
        self._token = self._of("admin@example.com")
        for who in ("fay", "ana", "sam"):
            account = {"email": f"{who}@example.com", "password": f"Aa1!{secrets.token_hex(12)}Zz", "full_name": who}
            self._api("/auth/email/admin/users", account)

    def register(self, steps: Steps, upstream: str) -> None:
        """What fay does there, request by request. It is done as the administrator, whom its quick start signs in."""
        self.servers: dict[str, str] = {}
        self.teams: dict[str, str] = {}
        for team, members in (("readers", ("fay", "ana")), ("finance", ("fay",))):
            with steps.step(f"POST /teams and its members: {team}"):
                self.teams[team] = self._api("/teams/", {"name": team, "description": team, "visibility": "private"})[
                    "id"
                ]
                for who in members:
                    self._api(f"/teams/{self.teams[team]}/members", {"email": f"{who}@example.com", "role": "member"})
        self._token = self._of("admin@example.com", *self.teams.values())
        with steps.step("POST /gateways: her server"):
            self._api("/gateways", {"name": "sales", "url": upstream, "transport": "STREAMABLEHTTP"})
        with steps.step("GET /tools: their ids"):
            tools = {each["name"]: each["id"] for each in self._api("/tools")}
        for team, name in (("readers", "sales-sales-query"), ("finance", "sales-sales-best-day")):
            with steps.step(f"POST /servers: a virtual server for {team}"):
                self._token = self._of("admin@example.com", self.teams[team])
                server = {"name": f"sales-{team}", "associated_tools": [tools[name]]}
                made = self._api("/servers", {"server": server, "visibility": "team", "team_id": self.teams[team]})
                self.servers[team] = made["id"]

    def call(self, who: str, team: str, tool: str, arguments: dict[str, str]) -> int:
        """The status of a call by one of them, whose token names the teams that they are in."""
        mine = {"ana": [self.teams["readers"]]}.get(who, [])
        headers = {
            "authorization": f"Bearer {self._of(f'{who}@example.com', *mine)}",
            "accept": "application/json, text/event-stream",
        }
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        url = f"http://127.0.0.1:{self._port}/servers/{self.servers[team]}/mcp/"
        answer = httpx2.post(url, json=message, headers=headers, timeout=60)
        if answer.is_success:
            assert '"isError":false' in answer.text.replace(" ", ""), answer.text
        return answer.status_code

    def _of(self, email: str, *teams: str) -> str:
        """A token as its quick start makes one: by the secret that it signs with."""
        command = [str(self._binaries / "python"), "-m", "mcpgateway.utils.create_jwt_token", "--username", email]
        command += ["--exp", "60", "--secret", self._settings["JWT_SECRET_KEY"]]
        command += ["--teams", ",".join(teams)] * bool(teams)
        said = subprocess.run(
            command, env=self._settings, cwd=self._folder, check=True, capture_output=True, text=True
        )
        return said.stdout.split()[-1]


if __name__ == "__main__":
    main()
