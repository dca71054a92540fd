"""A package without a wheel is built by its own code: confined, without network, and only if it was locked."""

from __future__ import annotations

import hashlib
import http.server
import io
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.releases import Release, ReleaseMaker
from tests.system.runtime_kit import ONE, TWO, short_folder, write_project

pytestmark = [pytest.mark.anyio, pytest.mark.system]

BACKEND = """
import socket, zipfile
def attempt(what):
    try:
        return repr(what())
    except OSError as error:
        return type(error).__name__
def build_wheel(folder, config_settings=None, metadata_directory=None):
    reach = lambda: socket.create_connection(("127.0.0.1", {port}), 2)
    found = [attempt(lambda: open({key!r}).read()), attempt(reach)]
    with zipfile.ZipFile(folder + "/thing-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.txt", " ".join(found))
        wheel.writestr("thing-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: thing\\nVersion: 1\\n")
        wheel.writestr("thing-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("thing-1.dist-info/RECORD", "")
    return "thing-1-py3-none-any.whl"
"""

SYSTEM = '[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'

LOCK = """
version = 1
requires-python = ">=3.11"

[[package]]
name = "pegboard"
version = "0"
source = {{ editable = "." }}
dependencies = [{{ name = "thing" }}]

[[package]]
name = "thing"
version = "1"
source = {{ registry = "{index}/simple" }}
sdist = {{ url = "{index}/thing-1.tar.gz", hash = "sha256:{digest}" }}
"""


@dataclass
class Index:
    """A package index on loopback with one source distribution, and a server that needs it."""

    home: Home
    project: Path
    url: str
    content: bytes = b""

    def offer(self, requires: str = "[]", digest: str = "") -> None:
        """Offer the package, built with `requires`, under its true digest or another."""
        port = int(self.url.rpartition(":")[2])
        backend = BACKEND.format(key=str(self.home.keys / "key"), port=port)
        metadata = "Metadata-Version: 2.1\nName: thing\nVersion: 1\n"
        files = {"pyproject.toml": SYSTEM.format(requires=requires), "backend.py": backend, "PKG-INFO": metadata}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(f"thing-1/{name}")
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
        self.content = packed.getvalue()
        digest = digest or hashlib.sha256(self.content).hexdigest()
        (self.project / "uv.lock").write_text(LOCK.format(index=self.url, digest=digest))

    async def make(self) -> Release:
        isolation = choose("auto", self.home, [str(ONE), str(TWO)], preflight.find_envoy())
        if isolation.mode == "off":
            pytest.skip("isolation is off here: bubblewrap is not installed and this is not root")
        prepare(self.home, isolation, [ONE])
        return await ReleaseMaker(self.home, isolation, preflight.find_uv()).make(ONE, self.project, lambda _: None)


@pytest.fixture
def index() -> Iterator[Index]:
    folder = short_folder()
    offered: list[Index] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(offered[0].content)))
            self.end_headers()
            self.wfile.write(offered[0].content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Index(
            Home.open(folder / "home"), write_project(folder / "one", "one"), f"http://127.0.0.1:{server.server_port}"
        )
        offered.append(found)
        (found.home.keys / "key").write_text("a private key")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()
    shutil.rmtree(folder)


async def test_its_build_sees_neither_keys_nor_network_and_is_installed(index: Index) -> None:
    index.offer()
    release = await index.make()
    installed = next(release.python.parent.parent.glob("lib/python3*/site-packages/thing.txt"))
    key, network = installed.read_text().split()
    assert key in {"PermissionError", "FileNotFoundError"}
    assert network in {"OSError", "ConnectionRefusedError"}
    port = int(index.url.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), 2).close()  # for anybody else it was there


async def test_what_differs_from_the_lock_file_is_not_built(index: Index) -> None:
    index.offer(digest="0" * 64)
    with pytest.raises(ReleaseFailed, match=r"is not what uv\.lock has"):
        await index.make()


@pytest.mark.parametrize(
    "requirement", ["thing @ file:///etc", "/etc", "--index-url=http://elsewhere", "-r/etc/passwd"]
)
async def test_a_build_that_says_where_its_tools_come_from_is_refused(index: Index, requirement: str) -> None:
    index.offer(requires=f'["{requirement}"]')
    with pytest.raises(ReleaseFailed, match="is no plain requirement"):
        await index.make()
