"""One child process: started, asked whether it is ready, watched, started again when it ends, and stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from socket import socket as Socket  # noqa: N812 - a field is named so
from typing import NamedTuple

from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.disk import nameless, usage
from pegboard_hub.runtime.mending import line_of

logger = logging.getLogger(__name__)


MOST_ENTRIES = 100_000
"""Files and folders that a process may have where its disk is limited."""

SANDBOX = 4
"""Processes of a sandbox itself, which its server's limit does not count."""

LOOKS_FULL = 5
"""Looks in a row at which a process has as many files open as it may, until it counts as stuck."""


class State(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    LIVE = "live"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the supervisor is. All in seconds.

    Attributes:
        first_pause: before the first restart; doubled for each further one.
        longest_pause: between two restarts.
        steady: a process that lived this long starts over with `first_pause`.
        start_limit: a process that is not ready by then is started again.
        silence_limit: a live process that does not answer its probe for so long is started again.
        look: between two probes of a live process; while it starts, a tenth of it.
        disk: between two looks at what a process has on the disk.
        grace: between asking a process to stop and killing it.
    """

    first_pause: float = 0.1
    longest_pause: float = 5.0
    steady: float = 10.0
    start_limit: float = 60.0
    silence_limit: float = 30.0
    look: float = 1.0
    disk: float = 2.0
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What the supervisor must know of one process.

    Attributes:
        name: as operators see it: hub, edge, or `namespace/name`.
        command: what to run, an absolute program first.
        environment: all of its variables.
        ready: whether it does its work now; never raises, never waits for long.
        log: file that its output is appended to.
        socket: a socket it listens on, or what it shows its life by; a stale one is removed before each start.
        memory_mb: private memory, in MiB, beyond which it is started again; None is without limit.
        sandboxed: the command is a sandbox, so a request to stop goes to the process inside.
        version: of what it runs, as operators know it.
        listener: a socket that is bound and listens already, and is handed over: its queue outlives each process.
        processes: processes and threads, beyond which it is started again; None is without limit.
        open_files: files and connections that one of its processes may have open; one that stays there is started
            again.
        server: `namespace/name` of whose replica it is; empty where it is none.
        pinned: file with what a replica's release declares; None where it is none.
        disk_mb: MiB that it may have in `folders`, beyond which it is started again; None is without limit.
        folders: what it may write.
        wind_up: lets what is under way end, within bounds of its own; called before a request to stop.
        sweep: ends whatever an earlier run left behind; called before each start and after each end.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], Awaitable[bool]]
    log: Path
    socket: Path | None = None
    memory_mb: int | None = None
    sandboxed: bool = False
    version: str = ""
    sweep: Callable[[], Awaitable[None]] | None = None
    wind_up: Callable[[], Awaitable[None]] | None = None
    listener: Socket | None = None
    processes: int | None = None
    open_files: int | None = None
    server: str = ""
    pinned: Path | None = None
    disk_mb: int | None = None
    folders: tuple[Path, ...] = ()


class Failure(NamedTuple):
    """Why a process ended, kept after it came back. `at` is in seconds since the epoch."""

    at: float
    what: str


class Supervised:
    """One process and its life. `run` keeps it alive until `stop`."""

    def __init__(self, spec: ProcessSpec, timing: Timing, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.state = State.DOWN
        self.since = time.time()
        self.starts = 0
        self.last_error = ""
        self.last_failure: Failure | None = None
        self.was_live = asyncio.Event()
        self._timing = timing
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._full = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(self.starts - 1, 0)

    async def run(self) -> None:
        """Keep the process running until `stop` is called."""
        pause = self._timing.first_pause
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._one_life()
            except Exception as error:  # whatever it is: nobody else would start it again
                logger.exception("%s could not be watched", self.spec.name)
                self._become(State.DOWN, f"could not be watched ({type(error).__name__}: {error})")
            if self._stopping.is_set():
                break
            if time.monotonic() - began >= self._timing.steady:
                pause = self._timing.first_pause
            logger.warning("%s: %s; next start in %.1f s", self.spec.name, self.last_error, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, self._timing.longest_pause)

    async def stop(self) -> None:
        """Ask the process to end, wait for the grace, then kill it and all that it started."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        if self.spec.wind_up is not None:
            await self.spec.wind_up()
        self._ask(process.pid)
        try:
            await asyncio.wait_for(process.wait(), self._timing.grace)
        except TimeoutError:
            logger.warning("%s did not stop within %.0f s and is killed", self.spec.name, self._timing.grace)
        await self._end(process)

    def kill(self) -> None:
        """Kill the process and all that it started, now."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            end_session(self._process)

    async def _one_life(self) -> None:
        try:
            process = await self._start()
        except OSError as error:
            self._become(State.DOWN, f"cannot be started: {error}")
            return
        ended = asyncio.create_task(process.wait())
        try:
            fault = await self._watch(process, ended)
        finally:
            ended.cancel()
            await self._end(process)
        self._become(State.DOWN, "" if self._stopping.is_set() else fault)

    async def _start(self) -> asyncio.subprocess.Process:
        spec = self.spec
        if spec.sweep is not None:
            await spec.sweep()
        if spec.socket is not None:
            spec.socket.unlink(missing_ok=True)
        log = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *spec.command,
                env=spec.environment,
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(spec.listener.fileno(),) if spec.listener is not None else (),
            )
        finally:
            os.close(log)
        self.starts += 1
        self._become(State.STARTING, self.last_error)
        return self._process

    async def _watch(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> str:
        """Wait for the end of the process, or for a reason to end it; that reason in words."""
        filled = asyncio.create_task(self._filled(process.pid))
        try:
            return await self._watched(process, ended, filled)
        finally:
            filled.cancel()

    async def _watched(
        self, process: asyncio.subprocess.Process, ended: asyncio.Task[int], filled: asyncio.Task[str]
    ) -> str:
        answered = time.monotonic()
        while not ended.done():
            if filled.done():
                return filled.result()
            if await self.spec.ready():
                answered = time.monotonic()
                if self.state is not State.LIVE:
                    self._become(State.LIVE, "")
                    self.was_live.set()
            elif fault := self._too_long(time.monotonic() - answered):
                return fault
            if fault := self._too_much(process.pid):
                return fault
            pause = self._timing.look if self.state is State.LIVE else self._timing.look / 10
            await asyncio.wait({ended, filled}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        return _end_in_words(ended.result())

    def _too_long(self, silent: float) -> str:
        if self.state is State.LIVE and silent > self._timing.silence_limit:
            return f"did not answer for {silent:.0f} s"
        if self.state is State.STARTING and silent > self._timing.start_limit:
            return f"was not ready {silent:.0f} s after its start"
        return ""

    def _too_much(self, pid: int) -> str:
        """Which limit it broke, in words that name it."""
        spec = self.spec
        if spec.memory_mb is None and spec.processes is None and spec.open_files is None:
            return ""
        pids = list(procfs.tree(pid))
        used = sum(procfs.private_memory(each) for each in pids) // 2**20
        if spec.memory_mb is not None and used > spec.memory_mb:
            # One that forks without end is known by it, whichever limit it meets first.
            many = f" in {len(pids)} processes" if len(pids) > 2 * SANDBOX else ""
            return f"used {used} MiB of memory{many}; its limit is {spec.memory_mb} (resources.memory_mb)"
        if spec.processes is not None and (count := sum(map(procfs.threads, pids))) > spec.processes + SANDBOX:
            return f"had {count} processes and threads; its limit is {spec.processes} (resources.processes)"
        if spec.open_files is not None:
            full = any(procfs.open_files(each) >= spec.open_files for each in pids)
            self._full = self._full + 1 if full else 0
            if self._full > LOOKS_FULL:
                return f"had {spec.open_files} files open, as many as it may (resources.open_files), and closed none"
        return ""

    async def _filled(self, pid: int) -> str:
        """Comes back once it has more on the disk than it may, in words that name the limit."""
        spec = self.spec
        while True:
            began = time.monotonic()
            if spec.disk_mb is not None and spec.folders:
                found = [await asyncio.to_thread(usage, folder, MOST_ENTRIES) for folder in spec.folders]
                held = await asyncio.to_thread(nameless, spec.folders[0], list(procfs.tree(pid)))
                used = (sum(each.bytes for each in found) + held) // 2**20
                if used > spec.disk_mb:
                    return f"has {used} MiB on the disk; its limit is {spec.disk_mb} (resources.disk_mb)"
                if any(each.entries > MOST_ENTRIES for each in found):
                    return f"has more than {MOST_ENTRIES} files, or too deep folders, on the disk (resources.disk_mb)"
            # Looking costs: where there is much, it is looked at less often.
            await asyncio.sleep(max(self._timing.disk, 20 * (time.monotonic() - began)))

    def _ask(self, pid: int) -> None:
        # bubblewrap passes no signal on: outermost process, init of the sandbox, and only then the server.
        inner = [grandchild for child in procfs.children(pid) for grandchild in procfs.children(child)]
        for target in inner if self.spec.sandboxed and inner else [pid]:
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGTERM)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        end_session(process)
        await process.wait()
        if self.spec.sweep is not None:
            await self.spec.sweep()

    def _write_into_its_log(self, what: str) -> None:
        """Tell a server's author where they look: the process itself can say nothing of its end."""
        if self.spec.server:
            # A full disk keeps nobody from being started again.
            with suppress(OSError), self.spec.log.open("a", encoding="utf-8") as file:
                file.write(f"{line_of(what)}\n")

    def _become(self, state: State, error: str) -> None:
        if state is not self.state:
            self.since = time.time()
        self.state = state
        self.last_error = error
        if error and state is State.DOWN:
            self.last_failure = Failure(time.time(), error)
            self._write_into_its_log(error)
        self._changed()


def end_session(process: asyncio.subprocess.Process) -> None:
    """Kill a process and whatever is left in the session it leads."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end_in_words(status: int) -> str:
    if status < 0:
        with suppress(ValueError):  # those in between have no name
            return f"was ended by {signal.Signals(-status).name}"
        return f"was ended by signal {-status}"
    return f"ended with status {status}"
