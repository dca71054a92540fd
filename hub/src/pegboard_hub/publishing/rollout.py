"""How a release takes over from another: what to do next, decided from what is known, and nothing else.

    settled ── a release is approved ──▶ starting ── enough replicas answer ──┬──▶ stepping ──┐
       ▲                                    │                                 │   (percent)   │
       │                                    ▼ never                           ▼               ▼
       │◀── it came through ── watching ◀── failed                          switch: it takes all calls
       │                          │                                           │
       └◀── back to the last ─────┴◀──────────────────────────────────────────┘

Whoever asks twice gets the same answer, so it does not matter who asks, or whether the one before lived to do it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pegboard.core.manifest import Rollout
from pegboard.core.publishing import Trouble
from pegboard_hub.publishing.orders import Replica

START_S: Final = 180.0
"""Seconds in which a candidate must be ready: its packages are fetched and installed in them, too."""

FRESH_S: Final = 15.0
"""Seconds for which a runtime's word counts as how things are."""

DRAIN_S: Final = 60.0
"""Seconds for which replicas that get no new calls finish what they began."""

MINIMUM_CALLS: Final = 20
"""Calls of a release before anything is said of its rates."""

RESTARTS: Final = 2
"""Restarts of a new release's replicas within its watch window that count as a breach."""


class Stage(StrEnum):
    """Where a deployment is."""

    SETTLED = "settled"
    STARTING = "starting"
    STEPPING = "stepping"
    WATCHING = "watching"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs of a server, and what is on its way. Columns of `deployments`."""

    server: str
    live: str | None = None
    candidate: str | None = None
    previous: str | None = None
    stage: Stage = Stage.SETTLED
    percent: int = 0
    since_ms: int = 0
    until_ms: int | None = None
    paused: bool = False
    paused_why: str = ""
    replicas_min: int | None = None
    replicas_max: int | None = None
    leaving: str | None = None
    leaving_until_ms: int | None = None
    proven: bool = False
    going_back: str = ""
    turn: int = 0
    version: int = 0
    updated_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """What a runtime sees of one release.

    Attributes:
        heard_at_ms: when it last said so; 0: never.
        step: what it is at.
        trouble: why it does not come up.
        notes: what its operators should know, as `ObservedRelease.notes`.
    """

    replicas: tuple[Replica, ...] = ()
    heard_at_ms: int = 0
    step: str = ""
    trouble: Trouble | None = None
    notes: tuple[str, ...] = ()

    def ready(self, now_ms: int) -> int:
        """Replicas that answer, as far as a fresh word says so."""
        if now_ms - self.heard_at_ms > FRESH_S * 1000:
            return 0
        return sum(each.state == "ready" for each in self.replicas)

    @property
    def failure(self) -> str:
        """The last words of a replica that fails; empty where none does."""
        return next(
            (each.last_failure or "it does not answer" for each in self.replicas if each.state == "failing"), ""
        )

    @property
    def last_words(self) -> str:
        """The same of any replica that ever failed."""
        return self.failure or next((each.last_failure for each in self.replicas if each.last_failure), "")

    @property
    def restarts(self) -> int:
        """How often its replicas had to be started again."""
        return sum(each.restarts for each in self.replicas)


NOTHING: Final = Running()


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a decision is made from.

    Attributes:
        approved: the newest submission that is approved and waits to be deployed; None: none.
        retired: nobody may call the server any more.
        submitted: its releases are; else the operator's file names a folder for it.
        needed: replicas that a candidate must have ready.
        running: what runs, by submission.
        rollout: as the candidate's manifest says, or the live one's where there is none.
        worse: how the live one is worse than the last, from the ledger; empty: it is not, or nobody can say.
        calls_per_minute: of the server lately.
    """

    now_ms: int
    approved: str | None = None
    retired: bool = False
    submitted: bool = True
    needed: int = 1
    running: dict[str, Running] = field(default_factory=dict)
    rollout: Rollout = field(default_factory=Rollout)
    worse: str = ""
    calls_per_minute: float = 0.0

    def of(self, submission: str | None) -> Running:
        """What runs of a submission."""
        return self.running.get(submission or "", NOTHING)


class Move(StrEnum):
    """What is done next."""

    BEGIN = "begin"
    STEP = "step"
    SWITCH = "switch"
    SETTLE = "settle"
    FAIL = "fail"
    GIVE_UP = "give up"
    BACK = "back"
    LET_GO = "let go"


@dataclass(frozen=True, slots=True)
class Next:
    """A move, and the deployment as it is once it was made.

    Attributes:
        what: happened, in words, for the author.
        trouble: of a candidate that failed.
    """

    move: Move
    after: Deployment
    what: str = ""
    trouble: Trouble | None = None


def next_move(now: Deployment, seen: Seen) -> Next | None:
    """What is to be done next; None: nothing, it waits."""
    if now.leaving is not None and seen.now_ms >= (now.leaving_until_ms or 0):
        return Next(Move.LET_GO, replace(now, leaving=None, leaving_until_ms=None))
    if now.candidate is not None and seen.retired:
        return _give_up(now, seen, "the server was retired meanwhile")
    if seen.retired or not seen.submitted:
        return None
    # Nothing new while somebody holds it, or while it goes back.
    if seen.approved is not None and not now.paused and not now.going_back:
        if now.candidate is not None:
            return _give_up(now, seen, "a newer release takes its place")
        return _begin(now, seen, seen.approved)
    match now.stage:
        case Stage.STARTING:
            return _starting(now, seen)
        case Stage.STEPPING:
            return _stepping(now, seen)
        case Stage.WATCHING:
            return _watching(now, seen)
        case Stage.SETTLED:
            return None


def begin(now: Deployment, seen: Seen, submission: str, *, going_back: str = "") -> Next:
    """Have a release come up, new or one that is gone back to."""
    return _begin(now, seen, submission, going_back)


def back(now: Deployment, seen: Seen, why: str) -> Next:
    """From the watch window back to the last release, whose replicas are warm.

    Raises:
        ValueError: there is none, or nobody watches.
    """
    if now.stage is not Stage.WATCHING or now.previous is None:
        raise ValueError("there is nothing warm to go back to")
    after = replace(
        _settled(now, seen),
        live=now.previous,
        previous=None,
        proven=True,
        leaving=now.live,
        leaving_until_ms=seen.now_ms + int(DRAIN_S * 1000),
    )
    return Next(Move.BACK, after, why)


def give_up(now: Deployment, seen: Seen, why: str) -> Next:
    """Let a candidate go that has not taken over yet.

    Raises:
        ValueError: there is none.
    """
    if now.candidate is None:
        raise ValueError("there is no candidate")
    return _give_up(now, seen, why)


def fail(now: Deployment, seen: Seen, trouble: Trouble) -> Next:
    """End a candidate that has not taken over yet.

    Raises:
        ValueError: there is none.
    """
    if now.candidate is None:
        raise ValueError("there is no candidate")
    return _fail(now, seen, trouble)


def hurry(now: Deployment, seen: Seen) -> Next | None:
    """What comes next as soon as it can, for whoever will not wait: no more steps, no longer watch; None: nothing."""
    match now.stage:
        case Stage.STARTING | Stage.STEPPING if seen.of(now.candidate).ready(seen.now_ms) >= seen.needed:
            return _switch(now, seen, "somebody would not wait")
        case Stage.WATCHING:
            return _settle(now, seen, "somebody ended the watch")
        case _:
            return None


def _begin(now: Deployment, seen: Seen, submission: str, going_back: str = "") -> Next:
    after = replace(
        now,
        candidate=submission,
        stage=Stage.STARTING,
        percent=0,
        since_ms=seen.now_ms,
        until_ms=seen.now_ms + int(START_S * 1000),
        paused=False,
        paused_why="",
        going_back=going_back,
    )
    if now.stage is Stage.WATCHING:
        # Its watch ends here: what was kept warm for it goes, and is gone back to by starting it anew.
        after = replace(after, leaving=now.previous, leaving_until_ms=seen.now_ms + int(DRAIN_S * 1000))
    return Next(Move.BEGIN, after, f"going back: {going_back}" if going_back else "")


def _starting(now: Deployment, seen: Seen) -> Next | None:
    found = seen.of(now.candidate)
    if found.trouble is not None:
        return _fail(now, seen, found.trouble)
    if found.ready(seen.now_ms) >= seen.needed:
        if now.paused:
            return None
        return _step_or_switch(now, seen)
    if not now.paused and now.until_ms is not None and seen.now_ms >= now.until_ms:
        return _fail(now, seen, _never_ready(found, seen))
    return None


def _stepping(now: Deployment, seen: Seen) -> Next | None:
    found = seen.of(now.candidate)
    if trouble := _failing(found):
        return _fail(now, seen, Trouble(step=f"at {now.percent} percent", what=trouble, mend=LOOK))
    if seen.worse:
        return _fail(now, seen, Trouble(step=f"at {now.percent} percent", what=seen.worse, mend=LOOK))
    if now.paused or now.until_ms is None or seen.now_ms < now.until_ms:
        return None
    return _step_or_switch(now, seen)


def _watching(now: Deployment, seen: Seen) -> Next | None:
    trouble = _failing(seen.of(now.live)) or seen.worse
    if trouble and now.previous is not None:
        if seen.of(now.previous).ready(seen.now_ms):
            return back(now, seen, trouble)
        # It would go from bad to nothing: what was there before does not answer either.
        return None
    if now.paused or now.until_ms is None or seen.now_ms < now.until_ms:
        return None
    return _settle(now, seen, "it came through the watch window")


def _step_or_switch(now: Deployment, seen: Seen) -> Next:
    if now.live is None or now.going_back:
        return _switch(now, seen, "")
    steps = [step for step in seen.rollout.steps if step > now.percent]
    told = [step for step in steps if calls_in_step(seen, step) >= MINIMUM_CALLS]
    if not told:
        skipped = f"no step of {_listed(steps)} percent says anything: {_few(seen, steps[-1])}" if steps else ""
        return _switch(now, seen, skipped)
    step = told[0]
    skipped = f"; {_listed(steps[: steps.index(step)])} percent would say nothing" if step != steps[0] else ""
    after = replace(
        now,
        stage=Stage.STEPPING,
        percent=step,
        since_ms=seen.now_ms,
        until_ms=seen.now_ms + int(seen.rollout.step_minutes * 60_000),
    )
    return Next(Move.STEP, after, f"{step} percent of the callers{skipped}")


def calls_in_step(seen: Seen, percent: int) -> float:
    """Calls that a candidate would get in one step, as busy as the server was lately."""
    return seen.calls_per_minute * seen.rollout.step_minutes * percent / 100


def _few(seen: Seen, percent: int) -> str:
    return f"about {calls_in_step(seen, percent):.0f} calls would come in one, and {MINIMUM_CALLS} are wanted"


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def _switch(now: Deployment, seen: Seen, what: str) -> Next:
    watched = now.live is not None and seen.rollout.watch_minutes > 0 and not now.going_back
    kept = now.live if now.live is not None and (now.proven or now.previous is None) else now.previous
    # What is gone back to was good; what is left was not, and nobody goes back to that by itself.
    previous = None if now.going_back else kept
    after = replace(
        now,
        live=now.candidate,
        candidate=None,
        previous=previous,
        stage=Stage.WATCHING if watched else Stage.SETTLED,
        percent=0,
        since_ms=seen.now_ms,
        until_ms=seen.now_ms + int(seen.rollout.watch_minutes * 60_000) if watched else None,
        paused=False,
        paused_why="",
        proven=not watched,
        going_back="",
    )
    # Warm is the one that was live a moment ago, where there is a way back to it.
    if now.live is not None and not (watched and previous == now.live):
        after = replace(after, leaving=now.live, leaving_until_ms=seen.now_ms + int(DRAIN_S * 1000))
    return Next(Move.SWITCH, after, what)


def _settle(now: Deployment, seen: Seen, what: str) -> Next:
    after = replace(
        _settled(now, seen),
        proven=True,
        leaving=now.previous,
        leaving_until_ms=seen.now_ms + int(DRAIN_S * 1000),
    )
    return Next(Move.SETTLE, after, what)


def _fail(now: Deployment, seen: Seen, trouble: Trouble) -> Next:
    return Next(Move.FAIL, _without_candidate(now, seen), trouble.what, trouble)


def _give_up(now: Deployment, seen: Seen, why: str) -> Next:
    return Next(Move.GIVE_UP, _without_candidate(now, seen), why)


def _without_candidate(now: Deployment, seen: Seen) -> Deployment:
    """The live one goes on, untouched. Where its watch was cut short by the candidate, it begins anew."""
    leaving = replace(now, leaving=now.candidate, leaving_until_ms=seen.now_ms + int(DRAIN_S * 1000))
    after = _settled(leaving if now.stage is Stage.STEPPING else now, seen)
    if now.live is None or now.proven or now.previous is None:
        return after
    until = seen.now_ms + int(seen.rollout.watch_minutes * 60_000)
    after = replace(after, stage=Stage.WATCHING, until_ms=until)
    return replace(after, leaving=None, leaving_until_ms=None) if after.leaving == now.previous else after


def _settled(now: Deployment, seen: Seen) -> Deployment:
    return replace(
        now,
        candidate=None,
        stage=Stage.SETTLED,
        percent=0,
        since_ms=seen.now_ms,
        until_ms=None,
        paused=False,
        paused_why="",
        going_back="",
    )


LOOK: Final = "Look at its logs, mend it, and submit it again."
"""What an author does about most that can happen to a release."""


def _failing(found: Running) -> str:
    """Why a release's replicas are a breach by themselves; empty while they are well."""
    if found.trouble is not None:
        return found.trouble.what
    if found.failure:
        return f"a replica fails: {found.failure}"
    if found.restarts >= RESTARTS:
        return f"its replicas were started again {found.restarts} times: {found.last_words or 'they end'}"
    return ""


def _never_ready(found: Running, seen: Seen) -> Trouble:
    limit = f"within {START_S:.0f} seconds"
    if seen.now_ms - found.heard_at_ms > FRESH_S * 1000:
        what = f"no runtime said anything of it {limit}"
        return Trouble(step="starting", what=what, mend="Ask the operators: `pegboard status` shows the runtime.")
    said = f": {found.last_words}" if found.last_words else ""
    what = f"{found.ready(seen.now_ms)} of {seen.needed} replicas were ready {limit}{said}"
    return Trouble(step="starting", what=what, mend=LOOK)
