"""The supervisor's word on its processes, written where hub and operators read it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version

from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.processes import Supervised


class StatusFile:
    """`run/status.json`: replaced on every change and at least every second while the supervisor lives.

    Args:
        home: of the instance.
        isolation: how its servers are kept apart.
        servers: what it was started with, as the grants file said then: the source of each server by its name. A
            server that the file names later runs from the next start on, and whoever reads this can tell.

    Attributes:
        started: when everything had been started, in seconds since the epoch; None before.
    """

    def __init__(self, home: Home, isolation: Isolation, servers: Mapping[str, str] | None = None) -> None:
        self._path = home.status
        self._isolation = isolation
        self._servers = dict(servers) if servers is not None else None
        self._since = time.time()
        self.started: float | None = None

    def write(self, processes: Iterable[Supervised]) -> None:
        """Replace the file.

        Raises:
            OSError: it cannot be written.
        """
        document = {
            "at": time.time(),
            "version": version("pegboard-hub"),
            "started": self.started,
            "supervisor": {"pid": os.getpid(), "since": self._since},
            "isolation": {"mode": self._isolation.mode, "why": self._isolation.why},
            "servers": self._servers,
            "processes": [_process(each) for each in processes],
        }
        replace_file(self._path, json.dumps(document) + "\n")

    def remove(self) -> None:
        """Take the file away: nothing runs any more. Where it stays, nobody holds the home's lock, and that tells."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _process(process: Supervised) -> dict[str, object]:
    return {
        "name": process.spec.name,
        "state": process.state,
        "pid": process.pid,
        "since": process.since,
        "restarts": process.restarts,
        "last_error": process.last_error,
        "last_failure": process.last_failure._asdict() if process.last_failure else None,
        "version": process.spec.version,
        "memory_mb": _memory_mb(process.pid),
    }


def _memory_mb(pid: int | None) -> int:
    """Private memory of a process and all below it, in MiB."""
    return sum(procfs.private_memory(each) for each in procfs.tree(pid)) // 2**20 if pid else 0
