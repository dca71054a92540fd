"""Whatever releases, replicas, people, time and deaths do, in whatever order, nothing is ever half-live."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from pegboard.core.publishing import NEXT, State, Trouble
from pegboard_hub.publishing import watching
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.model import submission_events, submissions
from pegboard_hub.publishing.refusals import DeploymentRefused
from pegboard_hub.publishing.rollout import Stage
from pegboard_hub.publishing.steering import MACHINE
from pegboard_hub.publishing.watching import Compared, Figures
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.service import Registry
from tests.folders import new_folder
from tests.hub.company import found_company
from tests.hub.rolling import SERVER, Rig, declared, rig_of

T = TypeVar("T")

MOST = 6
"""Releases in one life."""

ROLLOUT = {"steps": [25], "watch_minutes": 5}


class Died(Exception):
    """The hub was killed."""


class Mortal:
    """A registry whose hub dies in the middle of a transaction, when it is told to."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.dies = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Changing]:
        async with self._registry.changing() as changing:
            yield changing
            if self.dies:
                self.dies = False
                raise Died


class Ended(AsyncExitStack):
    """What is put back at the end, of either kind."""

    def enter_context(self, manager: Any) -> Any:
        found = manager.__enter__()
        self.push(manager.__exit__)
        return found


class Machine(RuleBasedStateMachine):
    """Releases come, good and bad; replicas fail and heal; people decide; hubs die; time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ended = Ended()
        self.version = 0
        self.was_live = False
        self.never: set[str] = set()

    def run_(self, job: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(job)

    @initialize()
    def found(self) -> None:
        self.folder = new_folder()
        self.rig: Rig = self.run_(self.ended.enter_async_context(rig_of(found_company(self.folder))))
        self.mortal = Mortal(self.rig.hub.parts.registry)
        self._put(self.rig.deployments)
        # What the ledger counts is told by the model: the counting itself has tests of its own.
        self.busy, self.worse = 0.0, ""

        async def calls_per_minute(*_: Any) -> float:
            return self.busy

        def compare(after: Figures, before: Figures, *_: Any) -> Compared:
            return Compared(after, before, self.worse)

        for name, told in (("calls_per_minute", calls_per_minute), ("compare", compare)):
            self.ended.enter_context(mock.patch.object(watching, name, told))

    def _put(self, deployments: Deployments) -> None:
        deployments._registry = self.mortal  # type: ignore[assignment]

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            try:
                self.rest()
            finally:
                self.run_(self.ended.aclose())
                shutil.rmtree(self.folder)
        self.runner.close()

    # What comes.

    @rule(kind=st.sampled_from(["good", "good", "good", "broken", "troubled", "slow"]))
    def a_release_is_approved(self, kind: str) -> None:
        if self.version >= MOST:
            return
        self.version += 1
        self.run_(self.rig.approve(self.version, rollout=ROLLOUT))
        digest = self.digest(self.version)
        if kind == "broken":
            self.rig.machine.broken[digest] = "it ends at once"
            self.never.add(digest)
        elif kind == "troubled":
            self.rig.machine.troubled[digest] = Trouble(step="installing", what="the index is away")
            self.never.add(digest)
        elif kind == "slow":
            self.rig.machine.slow.add(digest)

    # Hypothesis chooses among rules evenly: what is to be met often stands here more than once.

    @rule()
    def a_good_release_takes_over(self) -> None:
        self.a_release_is_approved("good")
        self.both_work()
        self.both_work()

    @rule()
    def another_good_release_takes_over(self) -> None:
        self.a_good_release_takes_over()

    @rule(busy=st.sampled_from([0.0, 1000.0]))
    def the_server_is_called(self, busy: float) -> None:
        self.busy = busy

    @rule(worse=st.sampled_from(["", "", "half of its calls fail"]))
    def figures_say(self, worse: str) -> None:
        self.worse = worse

    @rule()
    def what_was_slow_is_ready(self) -> None:
        self.rig.machine.slow.clear()

    @rule(version=st.integers(1, MOST))
    def replicas_fail(self, version: int) -> None:
        self.rig.machine.broken[self.digest(version)] = "out of memory"

    @rule()
    def replicas_heal(self) -> None:
        broken = self.rig.machine.broken
        for digest in [each for each in broken if each not in self.never]:
            del broken[digest]

    # Who works.

    @rule()
    def hub_looks(self) -> None:
        self._survive(self.rig.deployments.look())

    @rule()
    def runtime_turns(self) -> None:
        if self.rig.deployments._desired is not None:
            self.run_(self.rig.machine.turn())

    @rule(seconds=st.sampled_from([1, 10, 70, 200, 400]))
    def time_goes_on(self, seconds: int) -> None:
        self.rig.clock.pass_s(seconds)

    @rule(seconds=st.sampled_from([1, 70, 310]))
    def time_goes_on_and_both_work(self, seconds: int) -> None:
        self.rig.clock.pass_s(seconds)
        self.both_work()

    @rule()
    def both_work(self) -> None:
        self.hub_looks()
        self.runtime_turns()
        self.hub_looks()

    @rule()
    def the_hub_will_die(self) -> None:
        self.mortal.dies = True

    @rule()
    def the_hub_is_started_again(self) -> None:
        parts, old = self.rig.hub.parts, self.rig.deployments
        fresh = Deployments(
            parts.database, parts.registry, clock=self.rig.clock, serve=old._serve, egress=old._egress
        )
        self._put(fresh)
        # The doors of the hub that is open ask the one that was there; they are given what is known anew.
        old.__dict__.update(fresh.__dict__)
        self.run_(old.start())

    # What people want.

    @rule(action=st.sampled_from(["rollback", "rollback", "promote", "pause", "resume"]))
    def somebody_decides(self, action: str) -> None:
        if self.version:
            self._survive(getattr(self.rig.steering, action)(MACHINE, SERVER, "the model wants it"))

    @rule(version=st.integers(1, MOST), action=st.sampled_from(["rollback", "promote"]))
    def somebody_names_a_release(self, version: int, action: str) -> None:
        if self.version:
            wanted = f"sub{version:029x}"
            self._survive(getattr(self.rig.steering, action)(MACHINE, SERVER, "the model wants it", wanted))

    @precondition(lambda self: self.version)
    @rule(retired=st.sampled_from([True, False, False]))
    def somebody_retires_it_or_brings_it_back(self, retired: bool) -> None:
        self.run_(self._lifecycle(Lifecycle.RETIRED if retired else Lifecycle.APPROVED))

    async def _lifecycle(self, lifecycle: Lifecycle) -> None:
        async with self.rig.hub.parts.registry.changing() as changing:
            server = changing.server(SERVER)
            if (server.lifecycle is Lifecycle.RETIRED) != (lifecycle is Lifecycle.RETIRED):
                await changing.apply(Change(SERVER, PEGBOARD, "model", "model", values={"lifecycle": lifecycle}))

    # What holds.

    @invariant()
    def nothing_is_half_live(self) -> None:
        if self.version:
            self.run_(self._check())

    async def _check(self) -> None:
        now = await self.rig.now()
        async with self.rig.hub.parts.database.read() as connection:
            rows = (
                await connection.execute(select(submissions.c.id, submissions.c.state, submissions.c.release))
            ).all()
            events = (
                await connection.execute(
                    select(submission_events.c.submission, submission_events.c.state).order_by(
                        submission_events.c.seq
                    )
                )
            ).all()
        by_state = {state: [row.id for row in rows if row.state == state] for state in State}
        releases = {row.id: row.release for row in rows}
        assert by_state[State.LIVE] == ([now.live] if now.live else [])
        assert by_state[State.DEPLOYING] == ([now.candidate] if now.candidate else [])
        assert (now.stage in (Stage.STARTING, Stage.STEPPING)) == (now.candidate is not None)
        assert now.stage is not Stage.WATCHING or now.previous is not None
        self.was_live = self.was_live or now.live is not None
        assert not self.was_live or now.live is not None
        # What edge and servers decide with is what takes the calls, in one step with it.
        assert self.rig.serves() == releases.get(now.live or "")
        assert releases.get(now.live or "") not in self.never
        told = self.rig.hub.parts.registry.current.servers[SERVER].endpoints
        shares = {each.release: each.percent for each in told}
        assert not shares or sum(shares.values()) == 100
        assert len(shares) <= 3
        last: dict[str, State] = {}
        for submission, word in events:
            state = State(word)
            before = last.get(submission, State.APPROVED)
            assert state is before or state in NEXT[before]
            last[submission] = state

    def rest(self) -> None:
        """Left alone, with replicas that are well, everything comes to its end."""
        if not self.version:
            return
        self.mortal.dies = False
        self.worse = ""
        self.replicas_heal()
        self.what_was_slow_is_ready()
        self.run_(self._lifecycle(Lifecycle.APPROVED))
        if self.run_(self.rig.now()).paused:
            self.run_(self.rig.steering.resume(MACHINE, SERVER))
        for _ in range(60):
            self.both_work()
            self.rig.clock.pass_s(14)
        now = self.run_(self.rig.now())
        assert (now.stage, now.leaving) == (Stage.SETTLED, None)
        self.nothing_is_half_live()
        if now.live is not None:
            self.runtime_turns()
            live = self.rig.serves()
            assert self.rig.endpoints() == {live: 100}
            assert self.rig.machine.roles() == {live: "live"}

    def digest(self, version: int) -> str:
        return declared(version, rollout=ROLLOUT).digest

    def _survive(self, job: Coroutine[Any, Any, Any]) -> None:
        with suppress(DeploymentRefused, Died):
            self.run_(job)


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
