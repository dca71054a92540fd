"""A server that somebody else runs elsewhere, over HTTPS: at an address of this machine that is not loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.foreign.projects import HERE
from tests.ports import free_port
from tests.system.certificates import make_pair

START_S = 30.0


@dataclass(frozen=True)
class Elsewhere:
    """Where it is, and who vouches for it.

    Attributes:
        ca: the certificate of its authority, which no machine knows.
    """

    address: str
    port: int
    ca: str

    @property
    def place(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def said(self) -> str:
        """Lines of `[proxy]`, without the authority."""
        return f'url = "https://{self.place}/mcp"'


def own_address() -> str:
    """An address of this machine that others would reach it at; empty without one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        found = str(asked.getsockname()[0])
    return "" if found.startswith("127.") else found


@contextmanager
def elsewhere(folder: Path) -> Iterator[Elsewhere]:
    """The desk's server while the block runs; its files are in `folder`."""
    address, port = own_address(), free_port()
    chain, key = make_pair((address,))
    for name, content in (("remote.pem", chain), ("remote.key", key)):
        (folder / name).write_bytes(content)
    command = [sys.executable, HERE / "desk_backend.py", "https", address, str(port)]
    process = subprocess.Popen([*command, folder / "remote.pem", folder / "remote.key"])
    try:
        deadline = time.monotonic() + START_S
        while not _listens(address, port):
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield Elsewhere(address, port, chain.decode())
    finally:
        process.terminate()
        process.wait(10)


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 0.2).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True
