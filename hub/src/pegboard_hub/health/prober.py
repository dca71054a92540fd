"""The prober: `python -m pegboard_hub.health.prober --home DIR`. It looks at every server, and tells the hub.

A process of its own, so that a server that hangs, or ten thousand that do, are never in the way of an answer. It
holds no signing key and no database, only a credential that lets it tell health and nothing else; to servers it has
the way that the edge has. Whom to look at the hub says; where a server's socket is follows from its name alone.

Looks are spread: each server has its own time, a little off each round, and `AT_ONCE` are under way at most. One
whose looks do not agree with what is told of it is looked at again sooner, until damping has decided.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import logging
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.health.damping import Damped, observe
from pegboard_hub.health.probe import Kind, Look, look
from pegboard_hub.health.report import DOOR, MOST, Answer, Report, Target, Transition

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Looks that are under way at the same time, at most."""

EVERY_S = 15.0
"""How often each server is looked at, in seconds; with very many servers it is `1 / PER_S` for each."""

PER_S = 250.0
"""Looks a second, at most, at servers of which all is known."""

AGAIN_S = 2.0
"""When a server whose last look does not agree with what is told of it is looked at again, in seconds."""

JITTER = 0.1
"""Part of each wait by which it is longer or shorter, so that no two servers keep step."""

TELL_S = 5.0
"""How often the hub is told, at least, in seconds: silence means that the prober hangs."""

SOON_S = 0.2
"""How long a transition waits for others that come with it, in seconds."""

LATE_S = 1.0
"""A loop that comes this much too late, in seconds, was not let run: looks that timed out meanwhile tell nothing."""

TICK_S = 0.5
"""How long the loop waits at most, in seconds."""

NICE = 5
"""The prober gives way to what answers people."""


@dataclass(slots=True)
class _Server:
    """One server that is looked at. `looked` and `due` are of the monotonic clock, in seconds."""

    name: str
    socket: Path
    damped: Damped
    looked: float
    due: float
    gone: bool = False


@dataclass
class _Untold:
    """What the hub has not taken yet."""

    transitions: deque[Transition] = field(default_factory=lambda: deque(maxlen=MOST))
    checked: dict[str, int] = field(default_factory=dict)
    looks: Counter[Kind] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))

    def followed_by(self, newer: _Untold) -> _Untold:
        """This and what came after it, as one; of too much the oldest goes."""
        return _Untold(
            deque([*self.transitions, *newer.transitions], MOST),
            self.checked | newer.checked,
            self.looks + newer.looks,
            deque([*self.seconds, *newer.seconds], MOST),
        )


class Prober:
    """Looks and tells until cancelled.

    Args:
        home: the instance's.
        tell: gives a report to the hub; raises `httpx2.HTTPError` or `OSError` where it was not taken.
        every_s: how often each server is looked at, in seconds.
        at_once: looks under way at the same time, at most.
        look_at: looks at one socket.
    """

    def __init__(
        self,
        home: Home,
        tell: Callable[[Report], Awaitable[Answer]],
        every_s: float = EVERY_S,
        at_once: int = AT_ONCE,
        look_at: Callable[[Path], Awaitable[Look]] = look,
    ) -> None:
        self._home = home
        self._tell = tell
        self._every_s = every_s
        self._look_at = look_at
        self._free = asyncio.Semaphore(at_once)
        self._servers: dict[str, _Server] = {}
        self._heap: list[tuple[float, int, _Server]] = []
        self._serial = 0
        self._targets = ""
        self._untold = _Untold()
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._late_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look and tell."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looking())
            group.create_task(self._telling())
            group.create_task(self._noticing_lateness())

    async def _looking(self) -> None:
        while True:
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                server = heapq.heappop(self._heap)[2]
                if server.gone:
                    continue
                await self._free.acquire()
                task = asyncio.create_task(self._one(server))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            wait = min(self._heap[0][0] - now, TICK_S) if self._heap else TICK_S
            await _within(self._wake, max(wait, 0.0))
            self._wake.clear()

    async def _noticing_lateness(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK_S)
            if time.monotonic() - began > TICK_S + LATE_S:
                self._late_at = time.monotonic()

    async def _one(self, server: _Server) -> None:
        began = time.monotonic()
        try:
            found = await self._look_at(server.socket)
        finally:
            self._free.release()
        if server.gone:
            return
        server.looked = time.monotonic()
        if found.kind != "timeout" or self._late_at < began:
            self._note(server, found)
        self._plan(server, self._pause(server))

    def _note(self, server: _Server, found: Look) -> None:
        now_ms = int(time.time() * 1000)
        before, server.damped = server.damped, observe(server.damped, now_ms, found.fault)
        untold = self._untold
        untold.checked[server.name] = now_ms
        untold.looks[found.kind] += 1
        untold.seconds.append(round(found.seconds, 6))
        if server.damped.state != before.state:
            damped = server.damped
            log.info("%s is %s%s", server.name, damped.state, f": {damped.why}" if damped.why else "")
            untold.transitions.append(
                Transition(server=server.name, at_ms=damped.since_ms, state=damped.state, why=damped.why)
            )
            self._changed.set()

    def _pause(self, server: _Server) -> float:
        agrees = server.damped.state == ("live" if server.damped.well else "down")
        every = max(self._every_s, len(self._servers) / PER_S)
        return every if agrees or server.damped.state == "flapping" else min(AGAIN_S, every)

    def _plan(self, server: _Server, wait: float) -> None:
        server.due = time.monotonic() + wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        self._serial += 1
        heapq.heappush(self._heap, (server.due, self._serial, server))

    async def _telling(self) -> None:
        while True:
            self._changed.clear()
            telling, self._untold = self._untold, _Untold()
            try:
                self._follow(await self._tell(self._report(telling)))
            except (httpx2.HTTPError, OSError, ValueError) as error:
                log.warning("the hub takes no report, and is told again: %s", type(error).__name__)
                self._untold = telling.followed_by(self._untold)
            _beat(self._home.prober_beat)
            if await _within(self._changed, TELL_S):
                await asyncio.sleep(SOON_S)

    def _report(self, untold: _Untold) -> Report:
        now = time.monotonic()
        oldest = min((server.looked for server in self._servers.values()), default=now)
        return Report(
            targets=self._targets,
            transitions=tuple(untold.transitions),
            checked=dict(untold.checked),
            looks=dict(untold.looks),
            seconds=tuple(untold.seconds),
            oldest_ms=max(int((now - oldest) * 1000), 0),
        )

    def _follow(self, answer: Answer) -> None:
        """Go by the hub's list from now on. A look that is under way at a server that left it is not told."""
        self._targets = answer.targets
        if answer.servers is None:
            return
        wanted = {target.server: target for target in answer.servers}
        for name in [name for name in self._servers if name not in wanted]:
            self._servers.pop(name).gone = True
        new = [target for name, target in wanted.items() if name not in self._servers]
        for place, target in enumerate(new):
            self._add(target, place / PER_S)
        self._wake.set()

    def _add(self, target: Target, wait: float) -> None:
        now = time.monotonic()
        socket = self._home.socket(ServerName.parse(target.server))
        damped = Damped(target.state, target.since_ms, target.why, _was_well(target))
        server = self._servers[target.server] = _Server(target.server, socket, damped, now, now)
        self._plan(server, wait)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so long at most; whether it came.

    Not by `asyncio.wait_for`: up to Python 3.11 that loses a cancellation which comes together with the event, and
    the prober would not end (https://github.com/python/cpython/issues/86296).
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _was_well(target: Target) -> bool | None:
    return {"live": True, "down": False}.get(target.state)


def _beat(path: Path) -> None:
    """Show the supervisor that the loop turns."""
    try:
        path.touch()
        os.utime(path)
    except OSError as error:
        log.error("%s cannot be written: %s", path, error.strerror)


class HubTold:
    """Tells the hub at its internal door."""

    def __init__(self, home: Home) -> None:
        self._token = home.prober_token
        transport = httpx2.AsyncHTTPTransport(uds=str(home.internal_socket))
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=10)

    async def __call__(self, report: Report) -> Answer:
        """Give a report, and get whom to look at.

        Raises:
            httpx2.HTTPError: the hub cannot be reached, or does not take it.
            OSError: the credential cannot be read.
            ValueError: the answer is none.
        """
        token = self._token.read_text(encoding="utf-8").strip()
        response = await self._client.post(
            DOOR,
            content=report.model_dump_json(exclude_defaults=True),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        response.raise_for_status()
        return Answer.model_validate_json(response.content)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


async def probe(home: Home) -> None:
    """Look at the instance's servers until SIGTERM or SIGINT."""
    told = HubTold(home)
    running = asyncio.create_task(Prober(home, told).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await told.close()


def main() -> int:
    """Run the prober."""
    configure_logging()
    parser = argparse.ArgumentParser(prog="python -m pegboard_hub.health.prober", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of the instance")
    home = Home.at(parser.parse_args().home)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    asyncio.run(probe(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
