"""Layer 1 opened on purpose: a second Envoy with this instance's routes and none of its rules.

It listens on a Unix socket in a folder that only the operator may enter, for as long as the story needs it. It shows
that servers do not lean on the edge; nothing in the product starts it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.config import BOOTSTRAP, CLUSTERS, LISTENER
from pegboard_hub.edge.envoy import Json, watched
from pegboard_hub.runtime.launching import Launch

READY_S = 60.0
"""How long the second Envoy may take to start, in seconds."""


@asynccontextmanager
async def open_edge(home: Home) -> AsyncIterator[Path]:
    """Start the opened edge, give its socket, and end it.

    Raises:
        ChildProcessError: Envoy ended as it started.
        TimeoutError: it was not ready in time.
        OSError: the instance's configuration cannot be read.
    """
    folder = Path(tempfile.mkdtemp(prefix="opened", dir=home.run))
    socket = folder / "edge.sock"
    admin_socket = folder / "admin.sock"
    (folder / LISTENER).write_text(
        json.dumps(_opened_listener(_read(home.edge / LISTENER), socket)), encoding="utf-8"
    )
    bootstrap = _opened_bootstrap(_read(home.edge / BOOTSTRAP), home, folder, admin_socket)
    (folder / BOOTSTRAP).write_text(json.dumps(bootstrap), encoding="utf-8")
    command = Launch().command(envoy_arguments(folder / BOOTSTRAP, workers=1))
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        await _until_ready(process, admin_socket)
        yield socket
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself, which is told already
            process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> Json:
    document: Json = json.loads(path.read_text(encoding="utf-8"))
    return document


def _opened_listener(document: Json, socket: Path) -> Json:
    """The listener with no filter but the router, on a Unix socket, writing no log that the ledger reads."""
    listener, *_services = document["resources"]
    document["resources"] = [listener]
    listener["address"] = {"pipe": {"path": str(socket), "mode": 0o600}}
    listener.pop("additional_addresses", None)
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [entry for entry in manager["http_filters"] if entry["name"] == "router"]
    for closing in ("access_log", "local_reply_config", "common_http_protocol_options"):
        manager.pop(closing)
    return document


def _opened_bootstrap(document: Json, home: Home, folder: Path, admin_socket: Path) -> Json:
    document["admin"] = {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}}
    document["dynamic_resources"] = {
        "lds_config": watched(folder / LISTENER),
        "cds_config": watched(home.edge / CLUSTERS),
    }
    return document


async def _until_ready(process: asyncio.subprocess.Process, admin_socket: Path) -> None:
    admin = EnvoyAdmin(admin_socket)
    deadline = time.monotonic() + READY_S
    try:
        while not await admin.ready():
            if process.returncode is not None:
                raise ChildProcessError(f"the opened edge ended with status {process.returncode} as it started")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the opened edge was not ready within {READY_S} s")
            await asyncio.sleep(0.05)
    finally:
        await admin.close()
