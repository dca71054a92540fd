"""Doors at Unix sockets, for what asks over HTTP and not in process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn


@contextmanager
def socket_path() -> Iterator[Path]:
    """A path that is short enough for a socket (108 bytes is the kernel's limit), and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    yield folder / "hub.sock"
    shutil.rmtree(folder)


@asynccontextmanager
async def listening(door: Any, socket: Path) -> AsyncIterator[None]:
    """An ASGI application that is served at `socket` meanwhile."""
    server = uvicorn.Server(uvicorn.Config(door, uds=str(socket), log_config=None, lifespan="off", ws="none"))
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        with anyio.fail_after(60):
            while not server.started:
                await anyio.sleep(0.01)
        yield
        server.should_exit = True
