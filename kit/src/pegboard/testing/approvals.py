"""The in-memory twin of the hub's approvals: the same rules, with people that a test plays.

async with hub.client("ana", groups=["ads-eng"]) as client:
    first = await client.call_tool("drop", {"table": "old"})  # approval_pending
    hub.approvals.approve()
    again = await client.call_tool("drop", {"table": "old"})  # ran
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import anyio

from pegboard.call.ports import Standings
from pegboard.core.approval import (
    CALLER,
    NEXT,
    OPEN,
    OWNER,
    Action,
    Answer,
    Ask,
    Kind,
    Preview,
    Requirement,
    State,
    Told,
    binding,
    canonical_arguments,
)
from pegboard.core.errors import ApprovalsAway, TokenRefused
from pegboard.core.record import Denial, Intent, Outcome


@dataclass
class Request:
    """One request, as a test sees it. Times are seconds since the epoch."""

    id: str
    kind: Kind
    person: str
    tool: str
    arguments: dict[str, Any]
    preview: Preview | None
    requirement: Requirement
    bound: str
    expires_at: float
    state: State = State.REQUESTED
    decided_by: str = ""
    why: str = ""
    call_id: str = ""
    history: list[State] = field(default_factory=lambda: [State.REQUESTED])


class InMemoryApprovals:
    """What the hub is to a server that asks for approvals, and what people are to the hub.

    Attributes:
        requests: all there were, oldest first.
        asks: what the server asked, without its tokens.
        away: set it, and nothing is answered, as when the hub is away.
        longest_wait_s: for how long an ask is held open at most, in seconds; the hub holds it up to 50.
    """

    def __init__(
        self,
        standings: Standings,
        release: str,
        page: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._standings = standings
        self._release = release
        self._page = page
        self._clock = clock
        self._decided = anyio.Event()
        self.requests: list[Request] = []
        self.asks: list[Ask] = []
        self.away = False
        self.longest_wait_s = 0.5

    @property
    def waiting(self) -> list[Request]:
        """Those on which somebody has to decide."""
        self._expire()
        return [request for request in self.requests if request.state is State.REQUESTED]

    def approve(self, *requests: Request, by: str = "a person") -> None:
        """Say yes to these, or to all that wait.

        Raises:
            ValueError: one of them waits for nobody any more.
        """
        self._decide(requests, State.APPROVED, by, "")

    def reject(self, *requests: Request, why: str = "", by: str = "a person") -> None:
        """Say no to these, or to all that wait.

        Raises:
            ValueError: one of them waits for nobody any more.
        """
        self._decide(requests, State.REJECTED, by, why)

    def withdraw(self, *requests: Request, why: str = "") -> None:
        """Take these back, or all that wait, as the caller can.

        Raises:
            ValueError: one of them waits for nobody any more.
        """
        self._decide(requests, State.WITHDRAWN, "", why)

    def expire(self, *requests: Request) -> None:
        """Let the time of these run out, or of all that wait."""
        for request in requests or self.waiting:
            request.expires_at = self._clock()
        self._expire()
        self._wake()

    async def ask(self, ask: Ask) -> Answer:
        """Answer a server, as the hub does.

        Raises:
            ApprovalsAway: `away` is set, or the token is none of this server's.
        """
        if self.away:
            raise ApprovalsAway("the test took it away")
        self.asks.append(ask.model_copy(update={"token": ""}))
        try:
            person = self._standings.current(self._clock()).tokens.verify(ask.token, self._clock()).sub
        except TokenRefused as error:
            raise ApprovalsAway(f"the hub does not take the caller's token: {error.reason}") from error
        found = self._take(ask, person)
        other = ask.about and any(r.state is State.REQUESTED and r.id not in ask.about for r in found)
        with anyio.move_on_after(0 if ask.answered or other else min(ask.wait_s, self.longest_wait_s)):
            while any(request.state is State.REQUESTED for request in found):
                await self._decided.wait()
        if ask.answered != "no":
            self._expire()
            _claim(found, ask.call_id)
        return self._told(ask, found)

    def settle(self, record: Intent | Outcome | Denial) -> None:
        """Note how a call ended, as the ledger does."""
        if isinstance(record, Intent):
            return
        done = isinstance(record, Outcome) and record.status == "ok"
        for request in self.requests:
            if request.call_id == record.id and request.state is State.CLAIMED:
                _move(request, State.DONE if done else State.FAILED)

    def _take(self, ask: Ask, person: str) -> list[Request]:
        self._expire()
        known = [self._found(ask, person, action) for action in ask.actions]
        if ask.answered:
            self._note_answer(ask, [request for request in known if request is not None and request.id in ask.about])
        return [
            request or self._made(ask, person, action) for request, action in zip(known, ask.actions, strict=True)
        ]

    def _told(self, ask: Ask, found: list[Request]) -> Answer:
        mine = [request.call_id == ask.call_id for request in found if request.state is State.CLAIMED]
        return Answer(
            actions=tuple(_told(request) for request in found),
            claimed=bool(mine) and all(mine),
            page=f"{self._page}/{found[0].id}",
            asks=_asks(ask.requirement),
            yours=ask.requirement.by == CALLER,
            expires_at_ms=int(min(request.expires_at for request in found) * 1000),
        )

    def _note_answer(self, ask: Ask, found: Iterable[Request]) -> None:
        for request in found:
            if ask.answered == "no" and request.state in OPEN:
                _move(request, State.WITHDRAWN)
            elif ask.answered == "yes" and request.kind == "confirm" and request.state is State.REQUESTED:
                _move(request, State.APPROVED)

    def _found(self, ask: Ask, person: str, action: Action) -> Request | None:
        bound = self._bound(ask, person, action)
        alike = [request for request in self.requests if request.bound == bound]
        if not alike:
            return None
        newest = alike[-1]
        mine = newest.call_id == ask.call_id or ask.answered == "no"
        standing = newest.state in (State.REQUESTED, State.APPROVED, State.CLAIMED)
        rejected = newest.state is State.REJECTED and newest.expires_at > self._clock()
        return newest if standing or rejected or mine else None

    def _made(self, ask: Ask, person: str, action: Action) -> Request:
        request = Request(
            id=uuid4().hex,
            kind=ask.kind,
            person=person,
            tool=ask.tool,
            arguments=action.arguments,
            preview=action.preview,
            requirement=ask.requirement,
            bound=self._bound(ask, person, action),
            expires_at=self._clock() + ask.requirement.expires_s,
        )
        self.requests.append(request)
        return request

    def _bound(self, ask: Ask, person: str, action: Action) -> str:
        standing = self._standings.current(self._clock())
        return binding(
            person=person,
            server=str(standing.access.server),
            release=self._release,
            source="",
            tool=ask.tool,
            kind=ask.kind,
            arguments_digest=canonical_arguments(action.arguments)[1],
            policy=ask.policy,
            policy_version=ask.policy_version,
            requirement=ask.requirement,
        )

    def _decide(self, requests: Iterable[Request], to: State, by: str, why: str) -> None:
        for request in requests or self.waiting:
            _move(request, to)
            request.decided_by, request.why = by, why
        self._wake()

    def _expire(self) -> None:
        for request in self.requests:
            if request.state in OPEN and request.expires_at <= self._clock():
                _move(request, State.EXPIRED)

    def _wake(self) -> None:
        self._decided.set()
        self._decided = anyio.Event()


def _claim(found: list[Request], call_id: str) -> None:
    """Claim what was approved, if nobody is still to decide on anything and no other call has any of it."""
    if any(request.state in (State.REQUESTED, State.CLAIMED) for request in found):
        return
    for request in found:
        if request.state is State.APPROVED:
            _move(request, State.CLAIMED)
            request.call_id = call_id


def _told(request: Request) -> Told:
    return Told(id=request.id, state=request.state, reason=request.why, decided_by=request.decided_by)


def _move(request: Request, to: State) -> None:
    if to not in NEXT[request.state]:
        raise ValueError(f"the request is {request.state} and cannot be {to} any more")
    request.state = to
    request.history.append(to)


def _asks(requirement: Requirement) -> str:
    words = {CALLER: "the person who calls", OWNER: "the team that owns the server"}
    return words.get(requirement.by, f"somebody of {requirement.by}")
