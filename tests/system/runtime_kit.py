"""A server for the runtime's own tests: it does what it is told, so that a test can see what its process may do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.runtime import credentials, preflight
from pegboard_hub.runtime.isolation import Isolation, choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.processes import Timing
from pegboard_hub.runtime.releases import Release, ReleaseMaker
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import server_process

ONE = ServerName("prod", "one")
TWO = ServerName("dev", "two")
PUBLIC_URL = "http://localhost:1"

GRANDCHILD = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).pid"
"""What a server is told so that it starts a process that leaves its session; the answer is its process id."""

_PYPROJECT = """
[project]
name = "pegboard"
version = "0"
requires-python = ">=3.11"

[build-system]
requires = ["uv_build>=0.13,<0.14"]
build-backend = "uv_build"
"""

_LOCK = """
version = 1
requires-python = ">=3.11"

[[package]]
name = "pegboard"
version = "0"
source = { editable = "." }
"""

_MANIFEST = """
name = "{name}"
entry = "pegboard:server"
description = "does what it is told"
owner = "platform"
support_channel = "#help"
[resources]
memory_mb = 128
open_files = 128
[secrets]
API_KEY = "env:KEY"
"""

_DESCRIBE = """
import json, pathlib, sys, tomllib
manifest = tomllib.loads((pathlib.Path(sys.argv[2]) / "pegboard.toml").read_text())
print(json.dumps({"manifest": manifest, "tools": [], "policies": {}}))
"""

_SERVE = """
import http.server, json, os, signal, socket, socketserver, subprocess, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "edge"
    def do_GET(self):
        self.answer({"status": "ok"})
    def do_POST(self):
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            self.answer({"value": eval(text)})
        except Exception as error:
            self.answer({"error": type(error).__name__})
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

socketserver.ThreadingUnixStreamServer(os.environ["PEGBOARD_SOCKET"], Handler).serve_forever()
"""


def write_project(folder: Path, name: str, describe: str = _DESCRIBE, backend: str = "uv_build") -> Path:
    """A server's project that needs nothing from an index: it is its own kit."""
    module = folder / "src" / "pegboard"
    module.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_PYPROJECT.replace('"uv_build"\n', f'"{backend}"\n'))
    (folder / "uv.lock").write_text(_LOCK)
    (folder / "pegboard.toml").write_text(_MANIFEST.format(name=name))
    (module / "__init__.py").write_text("")
    (module / "describe.py").write_text(describe)
    (module / "serve.py").write_text(_SERVE)
    return folder


@dataclass
class Site:
    """Two servers under a supervisor, isolated in one way."""

    home: Home
    isolation: Isolation
    supervisor: Supervisor
    releases: list[Release]

    async def ask(self, server: ServerName, expression: str) -> Any:
        """What `expression` gives inside the server's process; for an error, the name of its class."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.home.socket(server)))
        async with httpx2.AsyncClient(transport=transport, timeout=60) as client:
            answer = (await client.post("http://server/", content=expression)).json()
        return answer.get("value", answer.get("error"))


def short_folder() -> Path:
    """A new folder that other users may pass through, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def site(mode: str) -> AsyncIterator[Site]:
    """Make and start both servers in mode `mode`, and leave nothing behind."""
    folder = short_folder()
    home = Home.open(folder / "home")
    isolation = choose(mode, home, [str(ONE), str(TWO)], preflight.find_envoy())
    prepare(home, isolation, [ONE, TWO])
    maker = ReleaseMaker(home, isolation, preflight.find_uv())
    os.environ["PEGBOARD_SECRET_PROD__ONE__KEY"] = "one's own"
    os.environ["PEGBOARD_SECRET_DEV__TWO__KEY"] = "two's own"
    status = StatusFile(home, isolation)
    supervisor = Supervisor(status.write, Timing(look=0.2, grace=3))
    try:
        made = [maker.make(s, write_project(folder / s.name, s.name), lambda _: None) for s in (ONE, TWO)]
        releases = list(await asyncio.gather(*made))
        credentials.issue(home, isolation, releases)
        for release in releases:
            process = supervisor.start(server_process(home, isolation, release, PUBLIC_URL))
            assert await supervisor.live(process, 60), home.log(release.server).read_text()
        yield Site(home, isolation, supervisor, releases)
    finally:
        await supervisor.stop([])
        del os.environ["PEGBOARD_SECRET_PROD__ONE__KEY"], os.environ["PEGBOARD_SECRET_DEV__TWO__KEY"]
        shutil.rmtree(folder)


def alive(pid: int) -> bool:
    """True while a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def status_of(home: Home) -> dict[str, Any]:
    """What the supervisor says of each process, by name."""
    return {each["name"]: each for each in json.loads(home.status.read_text())["processes"]}
