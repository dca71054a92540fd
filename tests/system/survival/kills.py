"""Killing processes of a running instance, and knowing when service is back."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

from pegboard_hub.common.home import Home
from pegboard_hub.runtime import procfs
from tests.system.survival.load import Fate, Load

SERVERS = ("prod/presto", "dev/scratch")
PROCESSES = ("hub", "edge", *SERVERS)


@dataclass(frozen=True, slots=True)
class Kill:
    """One process killed. `at` is in seconds since the epoch, `moment` is the same by the monotonic clock."""

    name: str
    at: float
    moment: float


def process(home: Home, name: str) -> dict[str, Any]:
    """What the supervisor says of one process."""
    return dict(next(each for each in _status(home)["processes"] if each["name"] == name))


def _status(home: Home) -> dict[str, Any]:
    return dict(json.loads(home.status.read_text(encoding="utf-8")))


def _all_live(status: dict[str, Any]) -> bool:
    states = {each["name"]: each["state"] for each in status["processes"]}
    return states.keys() >= set(PROCESSES) and set(states.values()) == {"live"}


def innermost(home: Home, name: str) -> int:
    """The process that does the work, inside whatever sandbox it runs in."""
    return list(procfs.tree(process(home, name)["pid"]))[-1]


def kill(home: Home, name: str) -> Kill:
    """`kill -9` of one process."""
    os.kill(innermost(home, name), signal.SIGKILL)
    return Kill(name, time.time(), time.monotonic())


async def kill_supervisor(home: Home, limit: float = 120.0) -> Kill:
    """`kill -9` of a detached instance's supervisor; back once its keeper has brought another up and all is live.

    Raises:
        TimeoutError: it is not within `limit` seconds.
    """
    pid = _status(home)["supervisor"]["pid"]
    os.kill(pid, signal.SIGKILL)
    killed = Kill("supervisor", time.time(), time.monotonic())
    async with asyncio.timeout(limit):
        while (found := _status(home))["supervisor"]["pid"] == pid or not _all_live(found):
            await asyncio.sleep(0.05)
    return killed


async def live_again(home: Home, since: Kill, starts: int, limit: float = 120.0) -> None:
    """Wait until a killed process was started anew and is live.

    Raises:
        TimeoutError: it is not within `limit` seconds.
    """
    async with asyncio.timeout(limit):
        while (found := process(home, since.name))["restarts"] <= starts or found["state"] != "live":
            await asyncio.sleep(0.05)


def outage(load: Load, since: Kill, servers: tuple[str, ...]) -> float:
    """Seconds from the last good answer before a kill's effect to the first good answer after it, the longest of all.

    A kill that no call notices gives the usual time between two answers.
    """
    return max(_longest_gap(load, server, since.moment) for server in servers)


def _longest_gap(load: Load, server: str, since: float) -> float:
    good = sorted(each.ended for each in load.book.of(server, Fate.ACKNOWLEDGED))
    before = [moment for moment in good if moment <= since][-1:]
    moments = before + [moment for moment in good if moment > since]
    return max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)
