"""The supervisor's word on its processes, written where hub and operators read it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import version

from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.processes import Supervised

LONGEST_FAULT = 500
"""Characters of a server's fault that are kept; the terminal shows more of it."""


class StatusFile:
    """`run/status.json`: replaced on every change and at least every second while the supervisor lives.

    Args:
        home: of the instance.
        isolation: how its servers are kept apart.

    Attributes:
        servers: the servers that were taken on, each with the source that it is made from. What the grants file says
            beyond that is not in force yet, and whoever reads this can tell.
        faults: servers that do not run as they should, each with why.
        closed: servers that nobody can call, whether they run or not, each with why, as the hub last said.
        deploying: submitted servers of which something is on its way, each with what, as the hub last said.
        joined: the joined edges, each as the hub last told it.
        notify: who is not told of approvals, and why, a line each, as the hub last said.
        edge: tells what Envoy was told and does not use.
        started: when everything had been started, in seconds since the epoch; None before.
    """

    def __init__(self, home: Home, isolation: Isolation) -> None:
        self._path = home.status
        self._isolation = isolation
        self.servers: dict[str, str] = {}
        self.faults: dict[str, str] = {}
        self.closed: dict[str, str] = {}
        self.deploying: dict[str, str] = {}
        self.joined: list[dict[str, object]] = []
        self.notify: tuple[str, ...] = ()
        self._since = time.time()
        self.started: float | None = None
        self.edge: Callable[[], Iterable[str]] = tuple

    def note_fault(self, server: str, words: str) -> None:
        """Keep why a server does not run: a line of text, whatever an author's code put into it."""
        self.faults[server] = "".join(sign if sign.isprintable() else " " for sign in words[:LONGEST_FAULT])

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
            "servers": self.servers,
            "faults": self.faults,
            "closed": self.closed,
            "deploying": self.deploying,
            "edge_faults": [" ".join(fault.split()) for fault in self.edge()],
            "joined_edges": self.joined,
            "notify": self.notify,
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
