"""Whatever servers, people, processes and time do, in whatever order, the service does what a simple model says."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pegboard.core.approval import NEXT, State
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.keeping import RUNS_FOR_MS
from pegboard_hub.approvals.model import Verdict
from pegboard_hub.telemetry.meter import HubMeter
from tests.folders import new_folder
from tests.hub.approvals_rig import Asking, Time, Told, decider, seen, timed
from tests.hub.company import denial, found_company, opened, outcome

EXPIRES_MS = 600_000

Key = tuple[str, str, str]
"""Whose call it is, with which argument, and who decides."""


@dataclass
class Modelled:
    """A request as the model has it."""

    key: Key
    state: State
    expires_ms: int
    live: bool = True
    call: str = ""
    process: str = ""
    claimed_ms: int = 0
    path: list[State] = field(default_factory=lambda: [State.REQUESTED])

    def to(self, state: State) -> None:
        self.state = state
        self.path.append(state)
        self.live = state in (State.APPROVED, State.REJECTED, State.CLAIMED)


@dataclass(frozen=True)
class Asked:
    """A question that was asked, to be asked again."""

    person: str
    arguments: tuple[str, ...]
    by: str
    call: str
    process: str


class Machine(RuleBasedStateMachine):
    """Servers ask, people decide, calls end, processes die, hubs are restarted, time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ended = AsyncExitStack()
        self.requests: dict[str, Modelled] = {}
        self.asked: list[Asked] = []
        self.calls = 0
        self.process = 1

    @initialize()
    def found(self) -> None:
        self.folder = new_folder()
        self.company = found_company(self.folder)
        self.time, self.told, self.meter = Time(), Told(), HubMeter()

        async def open_it() -> Asking:
            hub = await self.ended.enter_async_context(opened(self.company))
            return Asking.of(hub, self.company)

        self.presto = self.runner.run(open_it())
        self.restart()

    def teardown(self) -> None:
        self.runner.run(self.ended.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    # What servers do.

    @rule(
        person=st.sampled_from(["ana", "ana", "ana", "fay"]),
        arguments=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]),
        by=st.sampled_from(["security", "security", "security", "caller"]),
    )
    def ask(self, person: str, arguments: tuple[str, ...], by: str) -> None:
        self.calls += 1
        self._ask(Asked(person, arguments, by, f"call-{self.calls}", f"process-{self.process}"))

    # Hypothesis chooses among rules evenly: what is to be met often stands here more than once.

    @rule(arguments=st.sampled_from([("a",), ("b",), ("a", "b")]))
    def anas_agent_repeats_itself(self, arguments: tuple[str, ...]) -> None:
        self.ask("ana", arguments, "security")

    @rule(arguments=st.sampled_from([("a",), ("b",), ("a", "b")]))
    def ask_be_approved_and_ask(self, arguments: tuple[str, ...]) -> None:
        self.ask("ana", arguments, "security")
        self.decide_on_all_that_wait(approve=True)
        self.ask("ana", arguments, "security")

    @rule(arguments=st.sampled_from([("a",), ("b",), ("a", "b")]))
    def ask_be_rejected_and_ask(self, arguments: tuple[str, ...]) -> None:
        self.ask("ana", arguments, "security")
        self.decide_on_all_that_wait(approve=False)
        self.ask("ana", arguments, "security")

    @precondition(lambda self: self.asked)
    @rule(place=st.integers(0, 5))
    def ask_once_more(self, place: int) -> None:
        self._ask(self.asked[-1 - place % len(self.asked)])

    def _ask(self, asked: Asked) -> None:
        self.asked.append(asked)
        keys: list[Key] = [(asked.person, argument, asked.by) for argument in asked.arguments]
        mine = {request.key: request for request in self.requests.values() if request.call == asked.call}
        answer = self.runner.run(
            self.presto.ask(
                asked.person,
                *({"x": argument} for argument in asked.arguments),
                by=asked.by,
                requirement={"expires_s": EXPIRES_MS // 1000},
                call_id=asked.call,
                process=asked.process,
            )
        )
        if mine:
            assert answer.claimed is any(request.state is State.CLAIMED for request in mine.values())
            for told, key in zip(answer.actions, keys, strict=True):
                assert told.state is not State.CLAIMED or self.requests[told.id] is mine[key]
                assert told.state is self.requests[told.id].state
            return
        for key, told in zip(keys, answer.actions, strict=True):
            self._over_in_time(key)
            if self._live(key) is None:
                assert told.id not in self.requests
                self.requests[told.id] = Modelled(key, State.REQUESTED, self.now + EXPIRES_MS)
        live = [self._live(key) for key in keys]
        standing = {request.state for request in live if request is not None}
        claims = not standing & {State.REQUESTED, State.CLAIMED} and State.APPROVED in standing
        for request in live:
            if claims and request is not None and request.state is State.APPROVED:
                request.to(State.CLAIMED)
                request.call, request.process, request.claimed_ms = asked.call, asked.process, self.now
        assert answer.claimed is claims
        assert [self.requests[told.id] for told in answer.actions] == live

    @rule(status=st.sampled_from(["ok", "tool_error", "crashed", "denied"]), place=st.integers(0, 5))
    def a_call_ends(self, status: str, place: int) -> None:
        """Also one that claimed nothing, and one that had ended."""
        claimed = [request.call for request in self.requests.values() if request.call]
        call = claimed[-1 - place % len(claimed)] if claimed else "call-0"
        record = denial(call, 1, "ana") if status == "denied" else outcome(call, 1, status)
        self.runner.run(self.presto.hub.deliver(self.presto.channel, record))
        for request in self.requests.values():
            if request.call == call and request.state in (State.CLAIMED, State.UNKNOWN):
                request.to(State.DONE if status == "ok" else State.FAILED)

    @rule()
    def the_process_dies(self) -> None:
        gone, self.process = f"process-{self.process}", self.process + 1
        for _ in range(2):
            self.runner.run(self.presto.over(gone))
        for request in self.requests.values():
            if request.process == gone and request.state is State.CLAIMED:
                request.to(State.UNKNOWN)

    # What people do.

    @precondition(lambda self: self.requests)
    @rule(place=st.integers(0, 9), person=st.sampled_from(["ana", "fay", "sol", "pat"]), approve=st.booleans())
    def decide(self, place: int, person: str, approve: bool) -> None:
        id_, request = self._chosen(place)
        owner = request.key[0]
        if not _decides(person, request.key):
            expected = "own_request" if person == owner else "unknown"
        elif request.state is not State.REQUESTED:
            expected = "already_decided"
        else:
            expected = "expired" if request.expires_ms <= self.now else ""
        shown = self.runner.run(seen(self.approvals, id_)).shown_digest
        assert self._said(self.approvals.decide(decider(person), [Verdict(id_, shown, approve)], "so")) == expected
        if not expected:
            request.to(State.APPROVED if approve else State.REJECTED)

    @rule(approve=st.sampled_from([True, True, True, False]))
    def decide_on_all_that_wait(self, approve: bool) -> None:
        for person in ("sol", "ana", "fay"):
            page = self.runner.run(self.approvals.inbox(self.approvals.reader(person, decider(person).groups)))
            waiting = {
                id_
                for id_, request in self.requests.items()
                if request.state is State.REQUESTED
                and request.expires_ms > self.now
                and _decides(person, request.key)
            }
            assert {request.id for request in page.requests} == waiting
            verdicts = [Verdict(request.id, request.shown_digest, approve) for request in page.requests]
            if verdicts:
                assert self._said(self.approvals.decide(decider(person), verdicts, "so")) == ""
            for id_ in waiting:
                self.requests[id_].to(State.APPROVED if approve else State.REJECTED)

    @precondition(lambda self: self.requests)
    @rule(place=st.integers(0, 9), person=st.sampled_from(["ana", "fay"]))
    def withdraw(self, place: int, person: str) -> None:
        id_, request = self._chosen(place)
        expected = "unknown" if person != request.key[0] else ""
        if not expected and request.state not in (State.REQUESTED, State.APPROVED):
            expected = "already_decided"
        assert self._said(self.approvals.withdraw(person, [id_])) == expected
        if not expected:
            request.to(State.WITHDRAWN)

    @precondition(lambda self: self.requests)
    @rule(place=st.integers(0, 9))
    def ask_again(self, place: int) -> None:
        id_, request = self._chosen(place)
        again = (State.UNKNOWN, State.FAILED, State.EXPIRED, State.REJECTED, State.WITHDRAWN)
        if request.state not in again:
            assert self._said(self.approvals.again(request.key[0], id_)) == "not_ended"
            return
        fresh = self.runner.run(self.approvals.again(request.key[0], id_))
        live = self._live(request.key)
        if live is not None and live is not request and not self._is_over(live):
            assert self.requests[fresh.id] is live
            return
        if live is not None:
            self._end(live)
        self.requests[fresh.id] = Modelled(request.key, State.REQUESTED, self.now + EXPIRES_MS)

    # What time and operators do.

    @rule(seconds=st.sampled_from([1, 299, 300, 599, 600, 1201]), look=st.booleans())
    def time_goes_on(self, seconds: int, look: bool) -> None:
        self.time.go_on(seconds)
        if not look:
            return
        self.runner.run(self.approvals.look_after())
        for request in self.requests.values():
            if request.state in (State.REQUESTED, State.APPROVED) and request.expires_ms <= self.now:
                request.to(State.EXPIRED)
            if request.state is State.CLAIMED and request.claimed_ms < self.now - RUNS_FOR_MS:
                request.to(State.UNKNOWN)

    @rule()
    def restart(self) -> None:
        """A hub that begins anew, or another one of the same database."""
        parts = self.presto.hub.parts
        self.approvals = timed(parts, self.time, self.told, {}, self.meter)
        self.presto.hub.parts = replace(parts, approvals=self.approvals)
        # The door was built on the part that there was before.
        door: Any = parts.approvals
        door.__dict__.update(self.approvals.__dict__)

    # What always holds.

    @invariant()
    def every_request_is_as_the_model_says(self) -> None:
        for id_, request in self.requests.items():
            found = self.runner.run(seen(self.approvals, id_))
            assert [event.after for event in found.events] == request.path
            assert (found.state, found.call_id) == (request.state, request.call)
            steps = zip(request.path, request.path[1:], strict=False)
            assert all(after in NEXT[before] for before, after in steps)

    @property
    def now(self) -> int:
        return int(self.time.wall * 1000)

    def _chosen(self, place: int) -> tuple[str, Modelled]:
        ids = list(self.requests)
        id_ = ids[-1 - place % len(ids)]
        return id_, self.requests[id_]

    def _live(self, key: Key) -> Modelled | None:
        return next((each for each in self.requests.values() if each.key == key and each.live), None)

    def _is_over(self, request: Modelled) -> bool:
        return request.state is not State.CLAIMED and request.expires_ms <= self.now

    def _over_in_time(self, key: Key) -> None:
        live = self._live(key)
        if live is not None and self._is_over(live):
            self._end(live)

    def _end(self, request: Modelled) -> None:
        if request.state is State.REJECTED:
            request.live = False
        else:
            request.to(State.EXPIRED)

    def _said(self, job: Any) -> str:
        try:
            self.runner.run(job)
        except ApprovalRefused as error:
            return error.code
        return ""


def _decides(person: str, key: Key) -> bool:
    owner, _, by = key
    return person == owner if by == "caller" else person == "sol"


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
