"""What each move writes beside the deployment itself: states of submissions, what serves, the history.

All of it belongs to the transaction of its caller: a move is made whole, or not at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pegboard.core.publishing import State
from pegboard_hub.publishing import deployment_store as store
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.rollout import LOOK, Deployment, Move, Next, Stage
from pegboard_hub.publishing.transitions import move, tell
from pegboard_hub.registry.changes import Changing
from pegboard_hub.registry.history import PEGBOARD, Actor
from pegboard_hub.registry.model import RegisteredServer

Serve = Callable[[Changing, Deployable, Actor, str, str], Awaitable[RegisteredServer]]
"""Makes a release what callers are served with, in a transaction: (…, actor, action, why)."""

_MAY_BEGIN: Final = (State.APPROVED, State.SUPERSEDED, State.ROLLED_BACK, State.FAILED)


class Met(Exception):
    """Something else changed it first."""


@dataclass(frozen=True)
class Making:
    """A move while it is made.

    Attributes:
        changing: its transaction.
        now: the deployment before it.
        following: the move.
        actor: who makes it.
        why: somebody wanted it; empty where nobody said.
        known: releases by submission.
        serve: makes a release what callers are served with.
    """

    changing: Changing
    now: Deployment
    following: Next
    actor: Actor
    why: str
    known: Mapping[str, Deployable]
    serve: Serve

    @property
    def by(self) -> str:
        """Who it is told to be by; empty: by Pegboard itself."""
        return "" if self.actor == PEGBOARD else self.actor.sub

    @property
    def what(self) -> str:
        """What happened, in words."""
        return "; ".join(filter(None, [self.following.what, self.why]))

    def digits(self, submission: str) -> str:
        """How people are told of a submission's release."""
        return self.known[submission].release[:12]

    async def move(
        self, submission: str | None, before: State | Collection[State], to: State, step: str, **told: Any
    ) -> None:
        """Have a submission be in another state.

        Raises:
            Met: it was in none of those before.
        """
        connection, at = self.changing.connection, self.changing.now_ms
        check(await move(connection, some(submission), before, to, step, at, **told))

    async def tell(self, submission: str | None, state: State, step: str) -> None:
        """Note a step of a submission, whose state stays.

        Raises:
            Met: it is in another state.
        """
        connection, at = self.changing.connection, self.changing.now_ms
        check(await tell(connection, some(submission), state, step, at, what=self.what, who=self.by))


async def write(making: Making) -> None:
    """Write what a move means for everything but the deployment itself.

    Raises:
        Met: something else changed it first; the transaction is to be given up.
    """
    await _WRITES[making.following.move](making)


async def _begin(making: Making) -> None:
    begun = some(making.following.after.candidate)
    await making.move(begun, _MAY_BEGIN, State.DEPLOYING, "starting", what=making.what, who=making.by, trouble=None)
    await _pass_over(making, begun)


async def _step(making: Making) -> None:
    after = making.following.after
    await making.tell(after.candidate, State.DEPLOYING, f"{after.percent} percent")


async def _settle(making: Making) -> None:
    await making.tell(making.following.after.live, State.LIVE, "live")


async def _fail(making: Making) -> None:
    told, now = making.following.trouble, making.now
    trouble = told.model_dump(mode="json") if told else None
    await making.move(now.candidate, State.DEPLOYING, State.FAILED, "failed", what=making.what, trouble=trouble)
    await making.changing.note(now.server, making.actor, "deployment failed", making.following.what)


async def _give_up(making: Making) -> None:
    by_itself = making.actor == PEGBOARD
    to = State.SUPERSEDED if by_itself else State.ROLLED_BACK
    await making.move(making.now.candidate, State.DEPLOYING, to, to.value, what=making.what, who=making.by)
    if not by_itself:
        await making.changing.note(making.now.server, making.actor, "roll back", making.why)


async def _switch(making: Making) -> None:
    now, after, what = making.now, making.following.after, making.what
    live = some(after.live)
    step = "watching" if after.stage is Stage.WATCHING else "live"
    await making.move(
        live, State.DEPLOYING, State.LIVE, step, what=what or _said_of(after), who=making.by, trouble=None
    )
    if now.live is not None:
        to = State.ROLLED_BACK if now.going_back else State.SUPERSEDED
        told = now.going_back or f"{making.digits(live)} took its place"
        await making.move(now.live, State.LIVE, to, to.value, what=told, who=making.by)
    action, why = ("roll back", now.going_back) if now.going_back else ("deploy", what or "an approved release")
    await making.serve(making.changing, making.known[live], making.actor, action, why)


async def _back(making: Making) -> None:
    left, live, what = some(making.now.live), some(making.following.after.live), making.what
    trouble = {"step": "watching", "what": making.following.what, "mend": LOOK}
    rolled = State.ROLLED_BACK
    await making.move(left, State.LIVE, rolled, rolled.value, what=what, who=making.by, trouble=trouble)
    again = f"{making.digits(left)} was rolled back: {what}"
    await making.move(live, State.SUPERSEDED, State.DEPLOYING, "back", what=again, who=making.by)
    await making.move(live, State.DEPLOYING, State.LIVE, "live", what="live again", trouble=None)
    await making.serve(making.changing, making.known[live], making.actor, "roll back", what)


async def _nothing(_making: Making) -> None:
    """Nothing beside the deployment itself."""


_WRITES: Final[dict[Move, Callable[[Making], Awaitable[None]]]] = {
    Move.BEGIN: _begin,
    Move.STEP: _step,
    Move.SWITCH: _switch,
    Move.SETTLE: _settle,
    Move.FAIL: _fail,
    Move.GIVE_UP: _give_up,
    Move.BACK: _back,
    Move.LET_GO: _nothing,
}


async def _pass_over(making: Making, begun: str) -> None:
    """Older releases that were approved and not deployed yet are not any more."""
    connection, server = making.changing.connection, making.now.server
    newest = making.known[begun].created_at_ms
    waiting = (await store.approved(connection)).get(server, [])
    known = await store.deployables(connection, waiting)
    for id_ in waiting:
        if id_ not in known or known[id_].created_at_ms <= newest:
            told, to = f"{making.digits(begun)} is newer, and goes on its way", State.SUPERSEDED
            await move(connection, id_, State.APPROVED, to, to.value, making.changing.now_ms, what=told)


def some(submission: str | None) -> str:
    """A submission that a move is about."""
    assert submission is not None  # noqa: S101 - the move would not have been decided
    return submission


def check(moved: bool) -> None:
    """Go on where a condition held.

    Raises:
        Met: it did not.
    """
    if not moved:
        raise Met


def _said_of(after: Deployment) -> str:
    if after.stage is not Stage.WATCHING or after.until_ms is None:
        return "it takes all calls"
    minutes = (after.until_ms - after.since_ms) / 60_000
    return f"it takes all calls, and is watched for {minutes:.3g} minutes"
