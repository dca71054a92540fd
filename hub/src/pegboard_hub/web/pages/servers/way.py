"""The way of one submission as a picture: a row of steps, each with how long it took and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from pegboard.core.publishing import UNDER_WAY, Event, State
from pegboard_hub.publishing.submissions import Submission

Mark = Literal["done", "now", "failed", "ended", "ahead", "skipped", "never"]
"""How a step stands: `ended` is one in which a newer submission took its place, `never` one after that."""

STEPS: Final[tuple[tuple[str, frozenset[State]], ...]] = (
    ("Build", frozenset({State.SUBMITTED})),
    ("Check", frozenset({State.BUILT, State.CHECKED})),
    ("Review", frozenset({State.IN_REVIEW})),
    ("Deploy", frozenset({State.APPROVED, State.DEPLOYING})),
    ("Live", frozenset({State.LIVE})),
)
"""Each step, and the states that a submission has in it."""

WORDS: Final[dict[Mark, str]] = {
    "done": "done",
    "now": "now",
    "failed": "failed",
    "ended": "ended here",
    "ahead": "to come",
    "skipped": "not needed",
    "never": "not reached",
}

_ENDED: Final[dict[State, Mark]] = {
    State.FAILED: "failed",
    State.ROLLED_BACK: "failed",
    State.SUPERSEDED: "ended",
}


class Step(NamedTuple):
    """One step of a submission's way.

    Attributes:
        words: how it stands, for those who do not see colours.
        took: how long it took, or takes until now; empty where it did not begin.
        since_ms: when it began, in milliseconds since the epoch; None where it did not.
    """

    title: str
    mark: Mark
    words: str
    took: str
    since_ms: int | None


def way_of(found: Submission, events: Sequence[Event], now_ms: int) -> tuple[Step, ...]:
    """The steps of a submission, all of them, also those still to come.

    Args:
        found: the submission.
        events: what happened to it, oldest first.
        now_ms: the time, in milliseconds since the epoch.
    """
    spans = _spans(found, events, now_ms)
    reached = _reached(found, spans)
    return tuple(_step(number, reached, found, spans) for number in range(len(STEPS)))


def _spans(found: Submission, events: Sequence[Event], now_ms: int) -> list[tuple[int, int, int]]:
    """Number of the step, beginning and end of each event that belongs to one; times in milliseconds."""
    goes_on = found.state in {*UNDER_WAY, State.IN_REVIEW, State.LIVE}
    ends = [*(each.at_ms for each in events[1:]), now_ms if goes_on else found.updated_at_ms]
    of = {state: number for number, (_, states) in enumerate(STEPS) for state in states}
    return [
        (of[event.state], event.at_ms, max(event.at_ms, end))
        for event, end in zip(events, ends[: len(events)], strict=True)
        if event.state in of
    ]


def _reached(found: Submission, spans: Iterable[tuple[int, int, int]]) -> int:
    """The number of the step that it is in, or ended in."""
    for number, (_, states) in enumerate(STEPS):
        if found.state in states:
            return number
    return max((number for number, _, _ in spans), default=0)


def _step(number: int, reached: int, found: Submission, spans: list[tuple[int, int, int]]) -> Step:
    title, _ = STEPS[number]
    own = [(begun, ended) for of, begun, ended in spans if of == number]
    mark = _mark(number, reached, found, bool(own))
    took = lasted(sum(ended - begun for begun, ended in own) / 1000) if own else ""
    return Step(title, mark, WORDS[mark], took, own[0][0] if own else None)


def _mark(number: int, reached: int, found: Submission, begun: bool) -> Mark:
    state = found.state
    if number < reached:
        return "done" if begun else "skipped"
    if number > reached:
        return "never" if state in _ENDED else "ahead"
    if state is State.LIVE and found.step == "watching":
        return "now"
    if STEPS[number][0] == "Live" and state in (State.LIVE, State.SUPERSEDED):
        return "done"  # it served, and that is all there was to reach
    return _ENDED.get(state, "now")


_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def lasted(seconds: float) -> str:
    """A duration for people: exact while it is short, and in its two largest units once it is long."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    rest, parts = round(seconds), list[str]()
    for unit, size in (*_UNITS, ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
