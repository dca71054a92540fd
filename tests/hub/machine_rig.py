"""This machine as a runtime, in a test's hands: real builds, real processes, no Envoy and no hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.archive import File, pack
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.publishing import RELEASE_TYPE, SignedRelease
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import DesiredRelease, Role, Scale
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.building.builder import Builder, Made
from pegboard_hub.runtime.cgroups import find_groups
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.hub_door import HubAway
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.replica import Site
from pegboard_hub.runtime.machine.runtime import MachineRuntime
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.processes import Timing
from pegboard_hub.runtime.supervisor import Supervisor
from tests.system.runtime_kit import short_folder, write_project

INDEX = "http://127.0.0.1:25999/simple"
"""Nobody listens there."""

PUBLIC_URL = "http://localhost:25001"
TIMING = Timing(look=0.1, disk=0.2, first_pause=0.05, longest_pause=0.3, grace=3)

SERVE = """
import http.server, json, os, pathlib, signal, socket, socketserver, subprocess, sys, threading, time
{before}
first = pathlib.Path(os.environ["PEGBOARD_STATE"], "first.py")
if first.exists():
    exec(first.read_text())
served = calls = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "edge"
    def log_message(self, *_):
        pass
    def do_GET(self):
        if self.path == "/healthz/calls":
            return self.answer({{"calls": calls, "served": served, "streams": 0, "sessions": 0}})
        self.answer({{"status": "ok"}})
    def do_POST(self):
        global served, calls
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        calls += 1
        try:
            self.answer({{"value": eval(text)}})
        except Exception as error:
            self.answer({{"error": type(error).__name__}})
        finally:
            calls -= 1
            served += 1
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Inherited(socketserver.ThreadingUnixStreamServer):
    def __init__(self):
        super().__init__("", Handler, bind_and_activate=False)
        self.socket = socket.socket(fileno=int(os.environ["PEGBOARD_LISTEN_FD"]))
        self.socket.setblocking(True)

server = Inherited()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
"""

_MANIFEST_MORE = """
[replicas]
min = 0
max = 5
"""


class Releases:
    """Sources built once for all tests of a module, signed by a ring of its own."""

    def __init__(self) -> None:
        self.folder = short_folder()
        self.key = new_private_key()
        self.bytes: dict[str, bytes] = {}
        self._made: dict[tuple[str, ...], Made] = {}
        self._home = Home.open(self.folder / "home")

    def archive(
        self, server: str, mark: str = "a", egress: tuple[str, ...] = (), before: str = "", more: str = ""
    ) -> bytes:
        """A source that needs nothing of an index: it is its own kit."""
        folder = self.folder / f"source-{len(list(self.folder.iterdir()))}"
        project = write_project(folder, server.partition("/")[2])
        text = (project / "pegboard.toml").read_text().replace("does what it is told", f"mark {mark}")
        text = text.replace('[secrets]\nAPI_KEY = "env:KEY"\n', "")
        text = text.replace("open_files = 128", "open_files = 128\ndisk_mb = 64")
        if egress:
            text = f"egress = {json.dumps(list(egress))}\n{text}"
        (project / "pegboard.toml").write_text(text + _MANIFEST_MORE + more)
        (project / "src" / "pegboard" / "serve.py").write_text(SERVE.format(before=before))
        paths = (path for path in project.rglob("*") if path.is_file())
        return pack({path.relative_to(project).as_posix(): File(path.read_bytes()) for path in paths})

    async def made(self, server: str, archive: bytes) -> Made:
        """What the builder makes of it."""
        key = (server, str(hash(archive)))
        if key not in self._made:
            builder = self.builder(self._home)
            made = self._made[key] = await builder.build(f"b{len(self._made)}", server, archive, _tell)
            self.bytes |= {self.digest(content): content for content, _ in made.own}
        return self._made[key]

    def builder(self, home: Home) -> Builder:
        """A builder at a home."""
        isolation = GrowingIsolation(choose("auto", home, [], preflight.find_envoy()))
        store = ArtifactStore(home, self.own, dict)
        return Builder(home, isolation, preflight.find_uv(), store, lambda _: None, lambda: [INDEX])

    async def own(self, digest: str) -> bytes:
        """What the hub keeps."""
        if digest not in self.bytes:
            raise HubAway("the hub answered 404")
        return self.bytes[digest]

    @staticmethod
    def digest(content: bytes) -> str:
        """SHA-256, in hex."""
        from pegboard.core.publishing import sha256

        return sha256(content)

    def signed(self, server: str, made: Made, role: Role = Role.LIVE, scale: Scale | None = None) -> DesiredRelease:
        """As the hub desires it."""
        release = SignedRelease(
            server=server,
            release=made.declaration.digest,
            artifact=made.artifact.digest,
            source=made.artifact.source,
            sbom=self.digest(made.sbom),
            submitted_by="dana",
            at=1,
        )
        return DesiredRelease(
            release=release.release,
            artifact=made.artifact,
            declaration=made.declaration,
            signature=Signer(self.key).sign(release.model_dump(), RELEASE_TYPE),
            role=role,
            scale=scale or Scale(min=1, max=1),
        )

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)


async def _tell(_step: str, _what: str) -> None:
    return None


class MachineRig:
    """A `tests.hub.runtime_suite.Rig` over this machine."""

    def __init__(self, folder: Path, releases: Releases, mode: str, timing: Timing) -> None:
        self.home = Home.open(folder / "home")
        self.releases = releases
        self.timing = timing
        self.isolation = GrowingIsolation(choose(mode, self.home, [], preflight.find_envoy()))
        prepare(self.home, self.isolation.now, [])
        self.home.release_keys.write_text(json.dumps(public_jwks(releases.key)))
        self.sent: set[str] = set()
        self.groups = find_groups(self.home.instance)
        self._known: dict[tuple[str, ...], Made] = {}
        self._begin()

    def _begin(self) -> None:
        self.supervisor = Supervisor(lambda _: self.runtime.note_change(), self.timing)
        store = ArtifactStore(self.home, self.releases.own, dict)
        site = Site(
            self.home,
            self.isolation,
            self.supervisor,
            PUBLIC_URL,
            lambda _, address: address in self.sent,
            lambda: self.runtime.note_change(),
            self.groups,
        )
        self.runtime = MachineRuntime(site, store, preflight.find_uv())

    def release(
        self,
        server: str,
        mark: str = "a",
        *,
        role: Role = Role.LIVE,
        scale: Scale | None = None,
        egress: tuple[str, ...] = (),
    ) -> DesiredRelease:
        """As `Rig.release`; what it needs was built by `ahead`."""
        return self.releases.signed(server, self._known[(server, mark, *egress)], role, scale)

    async def ahead(self, *wanted: tuple[str, ...]) -> None:
        """Build what tests ask for."""
        for server, mark, *egress in wanted:
            archive = ARCHIVES.setdefault((server, mark, *egress), self.releases.archive(server, mark, tuple(egress)))
            self._known[(server, mark, *egress)] = await self.releases.made(server, archive)

    def settle(self) -> None:
        """Processes need nobody."""

    def pids(self, server: str) -> list[int]:
        """Its processes' ids."""
        return [p.pid for p in self.supervisor.processes if p.spec.server == server and p.pid is not None]

    async def end_one(self, server: str) -> None:
        """As `Rig.end_one`."""
        os.kill(self.pids(server)[0], signal.SIGKILL)

    async def anew(self) -> None:
        """As `Rig.anew`: the kernel ends what a killed supervisor had started."""
        self.supervisor.kill()
        await self.runtime.close()
        await self.supervisor.stop([])
        self._begin()

    def running(self, server: str) -> int:
        """As `Rig.running`."""
        place = str(self.home.made(ServerName.parse(server), "").parent)
        return len({pid for pid in _serving() if place in _command(pid)})

    async def ask(self, address: str, expression: str) -> Any:
        """What `expression` gives inside a replica."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.home.run / address.removeprefix("unix:")))
        async with httpx2.AsyncClient(transport=transport, timeout=60) as client:
            answer = (await client.post("http://server/", content=expression)).json()
        return answer.get("value", answer.get("error"))

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.runtime.close()
        await self.supervisor.stop([])
        self.groups.close()


ARCHIVES: dict[tuple[str, ...], bytes] = {}


def _serving() -> Iterator[int]:
    """The innermost processes that serve: in a sandbox several have the same command line."""
    for path in Path("/proc").iterdir():
        text = _command(int(path.name)) if path.name.isdigit() else ""
        if "pegboard.serve" in text and "bwrap" not in text and "launch.py" not in text:
            yield int(path.name)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@asynccontextmanager
async def machine(
    releases: Releases, mode: str = "auto", timing: Timing = TIMING, folder: Path | None = None
) -> AsyncIterator[MachineRig]:
    """A rig, and nothing of it afterwards; in a folder where another ran, if one is given."""
    folder = folder or short_folder()
    rig = MachineRig(folder, releases, mode, timing)
    try:
        yield rig
    finally:
        await rig.close()
        shutil.rmtree(folder, ignore_errors=True)


async def until(wanted: Any, limit_s: float = 60.0) -> None:
    """Wait until `wanted()` is true."""
    deadline = time.monotonic() + limit_s
    while not wanted():
        assert time.monotonic() < deadline, "did not become so"
        await asyncio.sleep(0.02)


def commands(*parts: str) -> list[str]:
    """Command lines of running processes that have all of these in them."""
    found = [_command(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [text for text in found if all(part in text for part in parts)]
