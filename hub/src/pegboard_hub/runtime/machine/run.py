"""One release on this machine, from the hub's word to replicas that answer, and back to nothing."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard.core.publishing import Trouble
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.publishing.orders import DesiredRelease, ObservedRelease, Role
from pegboard_hub.registry.sources import Fingerprint, fingerprint
from pegboard_hub.runtime.confined import OutsideFailed, ReleaseFailed
from pegboard_hub.runtime.credentials import resolve_secrets
from pegboard_hub.runtime.hub_door import HubAway
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.installing import Installed, install
from pegboard_hub.runtime.machine.judging import Step, judged
from pegboard_hub.runtime.machine.replica import Replica, Site, replica_id
from pegboard_hub.runtime.machine.scaling import Load, Scaling, renewed, scaled, woken
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.verified import RENEWED_S, NotSigned, NotStarted, check_egress, check_release
from pegboard_hub.runtime.workshop import Workshop

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often replicas are looked at, in seconds."""

EARLY_LOOK_S = 0.1
"""How often while one starts."""

ASLEEP_LOOK_S = 5.0
"""How often while all sleep."""

MOST_REPLICAS = 100
"""Of one release, whatever anybody says."""

AGAIN_S = 5.0
LONGEST_AGAIN_S = 60.0
"""The first and the longest pause until something is tried again, in seconds."""

DRAIN_S = 30.0
"""How long the calls under way at a replica that ends may take to their end, in seconds."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What releases are made runnable with.

    Attributes:
        store: the files of artifacts.
        installed: releases on this machine.
        uv: the program that builds environments.
        installing: how many at the same time.
    """

    store: ArtifactStore
    installed: Installed
    uv: Path
    installing: asyncio.Semaphore


class ReleaseRun:
    """Sees to one release. One task works on it; several do not wait for one another.

    Attributes:
        held: nothing is started or ended any more, as when everything ends in its order.
    """

    def __init__(self, site: Site, tools: Tools, server: ServerName, wanted: DesiredRelease) -> None:
        self.server = server
        self.held = False
        self._site = site
        self._tools = tools
        self._wanted = wanted
        self._news = asyncio.Event()
        self._ending = False
        self._step: Step = "fetching"
        self._trouble: Trouble | None = None
        self._checked: tuple[DesiredRelease, Fingerprint | None] | None = None
        self._replicas: dict[int, Replica] = {}
        self._closing: dict[asyncio.Task[None], tuple[int, Replica]] = {}
        self._scaling = Scaling(0, time.monotonic(), time.monotonic())
        self._heard_at = time.monotonic()
        self._unsigned_at: float | None = None
        self._waits = ""
        self._hindered = ""

    @property
    def wanted(self) -> DesiredRelease:
        """The hub's last word on it."""
        return self._wanted

    def update(self, wanted: DesiredRelease) -> None:
        """Go by another word of the hub from now on."""
        self._heard_at = time.monotonic()
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()

    def end(self) -> None:
        """End it, with the calls under way first; `run` comes back then."""
        self._ending = True
        self._news.set()

    def observed(self) -> ObservedRelease:
        """How it does."""
        replicas = [*self._replicas.values(), *(replica for _, replica in self._closing.values())]
        # A replica may be ready, or fail, since the last look: what is said of both is of one moment.
        step, trouble = self._judged()
        return ObservedRelease(
            server=str(self.server),
            release=self._wanted.release,
            step=step,
            replicas=tuple(replica.observed() for replica in replicas),
            trouble=trouble,
            notes=(self._waits,) if self._waits else (),
        )

    async def run(self) -> None:
        """Work until `end` was called, and everything has ended."""
        try:
            while not self._ending:
                program = await self._ready_program()
                if program is not None:
                    await self._serve(program)
            self._become("stopping")
            await self._close_all(drained=True)
        finally:
            # However this ends, nothing of it goes on.
            await self._close_all(drained=False)

    async def _ready_program(self) -> Program | None:
        """The release, installed; None where it is not wanted any more. Tries until then."""
        pause = AGAIN_S
        while not self._ending:
            self._news.clear()
            try:
                program = await self._made()
                self._trouble = None
                return program
            except NotStarted as error:
                self._fail(error.trouble)
            except ConfigurationError as error:
                self._fail(Trouble(step="starting", what="; ".join(error.problems), mend="it starts by itself then"))
            except (OutsideFailed, HubAway) as error:
                self._fail(Trouble(step=self._step, what=str(error), mend="it is tried again by itself"))
            except (ReleaseFailed, OSError) as error:
                mend = "submit it again; should that not help, ask the platform team"
                self._fail(Trouble(step=self._step, what=str(error), mend=mend))
            await self._pause(pause)
            pause = min(pause * 2, LONGEST_AGAIN_S)
        return None

    def _check(self) -> None:
        check_release(str(self.server), self._wanted, self._site.home.release_keys)
        check_egress(self._wanted)
        resolve_secrets(self._site.home, self.server, self._wanted.manifest.secrets)

    def _check_anew(self) -> None:
        """As `_check`, where the hub's word or the keys changed since it was checked: to verify costs."""
        now = self._wanted, fingerprint(self._site.home.release_keys)
        if now != self._checked:
            self._check()
            self._checked = now

    async def _made(self) -> Program:
        self._check()
        wanted, tools = self._wanted, self._tools
        isolation = self._site.isolation.including(str(self.server))
        program = tools.installed.find(self.server, wanted.artifact, wanted.declaration)
        if program is None:
            self._become("fetching")
            try:
                await tools.store.fetch(wanted.artifact)
            except ExceptionGroup as group:
                raise group.exceptions[0] from group
            async with tools.installing:
                self._become("installing")
                made = self._site.home.build(f"install-{uuid4().hex[:12]}")
                shop = Workshop(str(self.server), made, made / "work", isolation, tools.uv)
                try:
                    await install(shop, wanted.artifact, tools.store)
                    tools.installed.take(made, self.server, wanted.artifact)
                finally:
                    remove_tree(made)
            program = tools.installed.find(self.server, wanted.artifact, wanted.declaration)
            assert program is not None  # noqa: S101 - it was just installed
        tools.installed.hand_over(isolation, program)
        return program

    async def _serve(self, program: Program) -> None:
        """Keep as many replicas as there should be, until it is not wanted or not good any more."""
        self._become("starting")
        now = time.monotonic()
        asleep = self._wanted.scale.min == 0 and self._wanted.role is not Role.CANDIDATE
        self._scaling = Scaling(0 if asleep else 1, now, now)
        while not self._ending:
            self._news.clear()
            try:
                self._check_anew()
                self._unsigned_at = None
                await self._bring(program)
                self._hindered = ""
            except NotSigned:
                if not self._may_go_on():
                    await self._close_all(drained=True)
                    return
            except (NotStarted, ConfigurationError):
                await self._close_all(drained=True)
                return  # why is said by who tries again
            except OSError as error:
                self._hindered = str(error)
            await asyncio.gather(*(replica.look(self._wanted.role) for replica in self._replicas.values()))
            self._judge()
            await self._pause(self._until_next_look())

    def _may_go_on(self) -> bool:
        """Whether what runs may wait to be signed anew: it was verified when it started. Nothing is started then."""
        if self._unsigned_at is None:
            self._unsigned_at = time.monotonic()
            logger.warning("%s %s waits to be signed anew", self.server, self._wanted.release[:12])
        return self._heard_at - self._unsigned_at < RENEWED_S

    def _until_next_look(self) -> float:
        if self._step != "running":
            return EARLY_LOOK_S
        # Nothing of one that sleeps changes by itself; what wakes it is told.
        return LOOK_S if any(replica.process for replica in self._replicas.values()) else ASLEEP_LOOK_S

    async def _bring(self, program: Program) -> None:
        if self.held:
            return
        replicas = self._replicas
        load = Load(
            time.monotonic(),
            sum(each.use.calls for each in replicas.values() if each.use is not None),
            # One that is on its way up is waited for: it may not be let sleep again before it has answered anybody.
            any(each.used or each.rising for each in replicas.values()),
        )
        self._scaling = scaled(self._scaling, self._wanted.scale, load)
        count = self._fitting(program, min(self._scaling.count, MOST_REPLICAS))
        self._bring_to(program, max(count, 1))
        if count == 0 and self._waits:
            return  # whoever called waits in its queue, and it is looked at again
        if count == 0:
            for replica in replicas.values():
                if not replica.waits:
                    await replica.sleep()
            return
        for replica in replicas.values():
            if replica.asleep:
                replica.start(self._wanted.turn)

    def _fitting(self, program: Program, count: int) -> int:
        """Of as many replicas as there should be, those that the machine has memory for; what runs always stays."""
        site, memory_mb = self._site, program.manifest.resources.memory_mb
        running = sum(not each.asleep for each in self._replicas.values())
        taken = site.taken_mb
        fitting = running + site.room.more(count - running, running, memory_mb, taken) if count > running else count
        waits = site.room.words(count - fitting, memory_mb, taken) if fitting < count else ""
        if bool(waits) != bool(self._waits):
            logger.warning("%s %s: %s", self.server, self._wanted.release[:12], waits or "waits for memory no more")
            site.changed()
        self._waits = waits
        return fitting

    def _bring_to(self, program: Program, count: int) -> None:
        """Have as many replicas; those of an earlier turn go first, each once another answers in its place."""
        turn = self._wanted.turn
        # One that sleeps is of no turn: its next process begins with everything that is new.
        old = sorted(n for n, each in self._replicas.items() if each.turn < turn and not each.asleep)
        new = sorted(n for n in self._replicas if n not in old)
        keeps = 0
        if old:
            ready = sum(self._replicas[n].state == "ready" for n in new)
            keeps, count = renewed(count, len(old), len(new), ready)
        for number in [*old[keeps:], *new[count:]]:
            self._let_go(number)
        for _ in range(count - len(new)):
            self._open(program)

    def _open(self, program: Program) -> None:
        taken = {*self._replicas, *(number for number, _ in self._closing.values())}
        number = next(
            each for each in itertools.count() if each not in taken and not self._belongs_to_another(program, each)
        )
        replica = Replica(self._site, program, number, self._wake)
        replica.open(self._pids)
        self._replicas[number] = replica

    def _belongs_to_another(self, program: Program, number: int) -> bool:
        """Whether a release of this server whose digest begins alike has a replica of that name: its socket is."""
        return self._site.home.socket(self.server, replica_id(program.release, number)).exists()

    def _pids(self) -> list[int]:
        return [replica.pid for replica in self._replicas.values() if replica.pid is not None]

    def _wake(self) -> None:
        if self.held:
            return
        self._scaling = woken(self._scaling, time.monotonic())
        for replica in self._replicas.values():
            if replica.asleep and self._unsigned_at is None and self._fitting(replica.program, 1):
                with suppress(OSError, ConfigurationError):  # said at the next look
                    replica.start(self._wanted.turn)
        self._news.set()

    def _let_go(self, number: int) -> None:
        replica = self._replicas.pop(number)
        replica.stopping = True
        task = asyncio.create_task(self._drain(replica), name=f"end {replica.name}")
        self._closing[task] = number, replica
        task.add_done_callback(self._closed)
        self._site.changed()

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a replica of %s could not be ended: %s", self.server, error)
        self._site.changed()

    async def _drain(self, replica: Replica) -> None:
        """No new call, then none under way, then no process."""
        deadline, idle = time.monotonic() + DRAIN_S, 0
        try:
            while not replica.asleep and time.monotonic() < deadline and idle < 2:
                sent = self._site.sends(self.server, replica.address)
                await replica.look(self._wanted.role)
                # Twice in a row: a call that the edge passed on last may just be on its way.
                idle = idle + 1 if not sent and (replica.use is None or replica.use.calls == 0) else 0
                await asyncio.sleep(LOOK_S / 2)
        finally:
            await replica.close()

    async def _close_all(self, *, drained: bool) -> None:
        if drained:
            for number in list(self._replicas):
                self._let_go(number)
            while self._closing:
                await asyncio.wait(list(self._closing))
            return
        for task, (_, replica) in list(self._closing.items()):
            task.cancel()
            await asyncio.wait({task})
            await replica.close()  # it may have been cut short
        for number in list(self._replicas):
            await self._replicas.pop(number).close()

    def _judged(self) -> tuple[Step, Trouble | None]:
        """What there is to say of it now; before it is installed that is what was said of that last."""
        if self._step not in ("starting", "running"):
            return self._step, self._trouble
        return judged(self._replicas.values(), self._hindered, self._waits)

    def _judge(self) -> None:
        """Tell of it, where there is something else to say than before."""
        step, trouble = self._judged()
        if trouble is not None:
            self._fail(trouble, step)
            return
        self._trouble = None
        self._become(step)

    def _fail(self, trouble: Trouble, step: Step = "failed") -> None:
        if trouble != self._trouble:
            logger.warning("%s %s: %s", self.server, self._wanted.release[:12], trouble.what)
            self._site.changed()
        self._trouble = trouble
        self._become(step)

    def _become(self, step: Step) -> None:
        if step != self._step:
            self._step = step
            self._site.changed()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
