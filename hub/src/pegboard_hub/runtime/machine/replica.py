"""One replica on this machine: a socket that outlives its processes, and the process that answers there.

The supervisor binds the socket and hands it over. So whoever calls while no process runs (it sleeps, or just ended)
waits in the socket's queue, and is answered by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pegboard.core.environment import DECLARES_OTHERWISE, DOES_NOT_FIT
from pegboard.core.names import ServerName
from pegboard.core.readiness import OK
from pegboard_hub.common.home import Home
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.publishing import orders
from pegboard_hub.publishing.orders import Role
from pegboard_hub.runtime import credentials
from pegboard_hub.runtime.cgroups import Groups
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.machine.last_words import last_words, one_line
from pegboard_hub.runtime.machine.room import Room, room_here
from pegboard_hub.runtime.permissions import ids, prepare_replica
from pegboard_hub.runtime.probes import Doors, Use
from pegboard_hub.runtime.processes import Failure, State, Supervised
from pegboard_hub.runtime.procfs import private_memory, tree
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.table import group_name, replica_name, replica_process
from pegboard_hub.runtime.users import is_root

logger = logging.getLogger(__name__)

BACKLOG = 1024
"""Callers that wait in a socket's queue at most."""

MEMORY_S = 5.0
"""How often it is asked how much memory a replica has, in seconds."""

LARGEST_BUNDLE = 16 * 1024 * 1024
DIGITS = 8
"""Of a release's digest, in the names of its replicas."""

ACCEPTED = "accepted.jws"


@dataclass(frozen=True, slots=True)
class Site:
    """Where replicas run.

    Attributes:
        home: the instance's.
        isolation: how processes are kept apart.
        supervisor: keeps them alive.
        public_url: the edge's origin.
        sends: whether the edge sends calls to an address (`orders.Replica.address`) of a server.
        changed: told whenever there may be something new to observe.
        groups: where control groups are made.
        room: how much memory there is for all of them.
    """

    home: Home
    isolation: GrowingIsolation
    supervisor: Supervisor
    public_url: str
    sends: Callable[[ServerName, str], bool]
    changed: Callable[[], None]
    groups: Groups
    room: Room = field(default_factory=room_here)

    @property
    def taken_mb(self) -> int:
        """MiB that the processes of submitted servers may take, all together."""
        return sum(each.spec.memory_mb or 0 for each in self.supervisor.processes if each.spec.server)


class Replica:
    """One replica of one release.

    Attributes:
        program: what it runs.
        stopping: it takes no new calls, and ends once it has none.
        use: how much it was used when it was last looked at; None where it does not say.
        used: whether anything was asked of it since the look before.
        waits: whether it sleeps, and a connection wakes it.
        turn: in which its process was started.
    """

    def __init__(self, site: Site, program: Program, number: int, woken: Callable[[], None]) -> None:
        self.id = replica_id(program.release, number)
        self.stopping = False
        self.use: Use | None = None
        self.used = False
        self._site = site
        self.program = self._program = program
        self._woken = woken
        self._path = site.home.socket(program.server, self.id)
        self._listener: socket.socket | None = None
        self._doors = Doors(self._path)
        self._restarts = 0
        self._served = 0
        self._of_start = (-1, 0)
        self._smoke: dict[str, str] | None = None
        self._failure = ""
        self._told: Failure | None = None
        self._memory: tuple[float, int | None] = (0.0, None)
        self.waits = False
        self.turn = 0
        self._well = False

    @property
    def name(self) -> str:
        """Of its process."""
        return replica_name(self._program.server, self.id)

    @property
    def address(self) -> str:
        """Where the edge sends calls to."""
        return f"unix:{self._path.relative_to(self._site.home.run)}"

    @property
    def process(self) -> Supervised | None:
        """Its process and that one's life; None while it sleeps."""
        return self._site.supervisor.process(self.name)

    @property
    def asleep(self) -> bool:
        """Whether no process is wanted."""
        return self.process is None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid if self.process is not None else None

    def open(self, siblings: Callable[[], list[int]]) -> None:
        """Make its folders, bind its socket and give it a channel; nothing is started.

        Raises:
            OSError: something cannot be made.
        """
        site, server = self._site, self._program.server
        isolation = site.isolation.including(str(server))
        self._siblings = siblings
        _take_over_spool(site.home, server, self.id)
        prepare_replica(site.home, isolation, server, self.id)
        _know_bundle(site.home, server, self.id, ids(isolation, str(server)))
        self._listener = _listening(self._path, isolation.users.edge.gid if isolation.users else None)
        credentials.open_replica(site.home, isolation, self._program, self.id)

    def start(self, turn: int = 0) -> None:
        """Have a process answer from now on.

        Args:
            turn: of it (`DesiredRelease.turn`): secrets are what they are now.

        Raises:
            ConfigurationError: a secret is not there.
            OSError: its working folder cannot be emptied.
        """
        assert self._listener is not None  # noqa: S101 - it was opened
        self._watch(False)
        self.turn = turn
        site = self._site
        isolation = site.isolation.now
        prepare_replica(site.home, isolation, self._program.server, self.id)
        site.supervisor.start(
            replica_process(
                site.home,
                isolation,
                self._program,
                self.id,
                self._listener,
                site.public_url,
                self._siblings,
                site.groups,
            )
        )
        site.changed()

    async def sleep(self) -> None:
        """End its process until somebody connects. Who connects meanwhile waits in the queue, and wakes it."""
        await self._end_process()
        self.use = None
        self._watch(True)
        self._site.changed()

    async def close(self) -> None:
        """End it for good, and leave nothing but what the hub does not have yet."""
        self._watch(False)
        await self._end_process()
        await self._doors.close()
        if self._listener is not None:
            self._path.unlink(missing_ok=True)
            self._listener.close()
            self._listener = None
        home, server = self._site.home, self._program.server
        self._site.groups.remove(group_name(server, self.id))
        with suppress(OSError):
            credentials.close_replica(home, self._site.isolation.now, server, self.id)
        await asyncio.to_thread(remove_tree, home.work(server, self.id))
        if not any(home.spool(server, self.id).glob("*.jsonl")):
            await asyncio.to_thread(remove_tree, home.spool(server, self.id))
        self._site.changed()

    async def look(self, role: Role) -> None:
        """Ask it how it does. Never raises."""
        process = self.process
        if process is None or process.state is not State.LIVE:
            self.use, self.used, self._well = None, False, False
            return
        use = await self._doors.use()
        if use is not None:
            served = self._of_start == self._start_of(process) and use.served != self._served
            self.used = served or use.calls > 0 or use.open > 0
            self._served = use.served
        self.use = use
        # Which tools of a foreign server are blocked may change while it runs.
        if self._of_start != self._start_of(process) or self._program.manifest.proxy is not None:
            await self._look_at_smoke(process)
        self._well = role is not Role.CANDIDATE or not self._smoke

    def observed(self) -> orders.Replica:
        """How it does."""
        process = self.process
        return orders.Replica(
            id=self.id,
            address=self.address,
            state=self.state,
            in_flight=self.use.calls if self.use else 0,
            restarts=self._restarts + (process.restarts if process else 0),
            memory_mb=self._memory_mb(),
            started_at_ms=int(process.since * 1000) if process else None,
            smoke=self._smoke or {},
            last_failure=self.failure,
        )

    @property
    def failure(self) -> str:
        """Why its process last ended, or does not come up, in words."""
        process = self.process
        if process is not None and process.last_failure is not None and process.last_failure != self._told:
            self._told = process.last_failure
            self._failure = self._in_words(process.last_failure.what)
        return self._failure

    @property
    def _known(self) -> bool:
        """Whether the process that answers now made its smoke calls: what one before it passed is not this one's."""
        process = self.process
        if process is None or process.state is not State.LIVE:
            return False
        return self._of_start == self._start_of(process)

    @property
    def _ready(self) -> bool:
        return self._known and self._well

    @property
    def rising(self) -> bool:
        """Whether its process is on its way up, and may still get there."""
        return self.process is not None and not self._ready and not self.hopeless

    @property
    def hopeless(self) -> bool:
        """Whether it will not come up by waiting: it never did, and was tried."""
        process = self.process
        if process is None or process.was_live.is_set() or process.last_failure is None:
            return self._known and bool(self._smoke) and not self._well
        what = process.last_failure.what
        final = {f"ended with status {status}" for status in (DOES_NOT_FIT, DECLARES_OTHERWISE)}
        return what in final or what.startswith("was not ready") or process.starts > 3

    @property
    def state(self) -> orders.ReplicaState:
        """What it is at."""
        process = self.process
        if self.stopping:
            return "stopping"
        if process is None:
            return "asleep"
        if process.state is State.LIVE:
            if self._ready:
                return "ready"
            return "failing" if self._smoke and self._known else "starting"
        return "failing" if process.last_failure is not None and process.starts > 1 else "starting"

    def _memory_mb(self) -> int | None:
        """Private memory of all its processes, in MiB, as it was some seconds ago at most: asking costs."""
        at, memory = self._memory
        if self.pid is None:
            return None
        if memory is None or time.monotonic() - at > MEMORY_S:
            memory = sum(private_memory(pid) for pid in tree(self.pid)) // 2**20
            self._memory = time.monotonic(), memory
        return memory

    def _start_of(self, process: Supervised) -> tuple[int, int]:
        return id(process), process.starts

    async def _look_at_smoke(self, process: Supervised) -> None:
        outcome: dict[str, str] = {}
        manifest, start = self._program.manifest, self._start_of(process)
        if manifest.smoke or manifest.proxy is not None:
            status, outcome = await self._doors.smoke()
            if not status or (manifest.smoke and not outcome):
                return  # they are under way
        bad = {one_line(tool): one_line(word) for tool, word in outcome.items() if word != OK}
        self._smoke = bad or None
        self._of_start = start
        if bad:
            self._failure = one_line("; ".join(f"smoke call of {tool}: {word}" for tool, word in bad.items()))
        self._site.changed()

    def _in_words(self, what: str) -> str:
        if not what.startswith("ended with status"):
            return what
        words = last_words(self._site.home.log(self._program.server, self.id))
        return one_line(f"{what}: {words}") if words else what

    async def _end_process(self) -> None:
        process = self.process
        if process is not None:
            self._restarts += process.restarts
            await self._site.supervisor.remove(self.name)

    def _watch(self, on: bool) -> None:
        if self._listener is None or on == self.waits:
            return
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._listener.fileno(), self._connected)
        else:
            loop.remove_reader(self._listener.fileno())
        self.waits = on

    def _connected(self) -> None:
        self._watch(False)
        self._woken()


def replica_id(release: str, number: int) -> str:
    """What one replica of a release is called. Another release whose digest begins alike may have that name."""
    return f"{release[:DIGITS]}-{number}"


def _listening(path: Path, group: int | None) -> socket.socket:
    """A socket that listens at `path`, for the edge alone; whoever finds it there can connect."""
    early = path.with_name(f".{path.stem[-12:]}")
    early.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(early))
        if is_root() and group is not None:
            os.chown(early, 0, group)
        early.chmod(0o660)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        early.rename(path)
    except BaseException:
        listener.close()
        early.unlink(missing_ok=True)
        raise
    return listener


def _take_over_spool(home: Home, server: ServerName, replica: str) -> None:
    """Take over what a replica that is no more left undelivered: its records, and which of its processes are over."""
    own = home.spool(server, replica)
    if own.exists():
        return
    prefix = home.spool(server, "x").name[:-1]
    for left in sorted(own.parent.glob(f"{prefix}*")):
        other = left.name[len(prefix) :]
        gone = not home.credentials(server, other).exists()
        if gone and (any(left.glob("*.jsonl")) or any(left.glob("*.process"))):
            left.rename(own)
            return


def _know_bundle(home: Home, server: ServerName, replica: str, owner: tuple[int, int]) -> None:
    """Let a new replica know the newest bundle that one of its server used, so that no older one is put before it.

    The server could have put anything there: what is no plain file of its own is left alone. The kit verifies it.
    """
    target = home.spool(server, replica) / ACCEPTED
    if target.exists() or target.is_symlink():
        return
    own = home.spool(server).name
    folders = [home.spool(server), *home.spool(server).parent.glob(f"{own}~*")]
    known = [path for folder in folders if (path := folder / ACCEPTED).exists() and not path.is_symlink()]
    for path in sorted(known, key=lambda path: path.lstat().st_mtime, reverse=True):
        with suppress(OSError):
            _copy_plain(path, target, owner)
            return


def _copy_plain(path: Path, target: Path, owner: tuple[int, int]) -> None:
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(source, "rb") as file:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > LARGEST_BUNDLE:
            raise OSError("no plain file")
        if is_root() and found.st_uid != owner[0]:
            raise OSError("somebody else's file")
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(copy, "wb") as output:
            output.write(file.read(LARGEST_BUNDLE))
            if is_root():
                os.fchown(copy, *owner)
