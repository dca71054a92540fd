"""The way of a submission as a row of steps: what is done, where it is, what it came to, and how long each took."""

from __future__ import annotations

import pytest

from pegboard.core.publishing import Event, Provenance, State
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.web.pages.servers.way import lasted, way_of

BEGUN_MS = 1_000_000


def submission(state: State, updated_at_ms: int = BEGUN_MS) -> Submission:
    return Submission(
        id="a" * 32,
        server="prod/weather",
        source="0" * 64,
        state=state,
        step=state.value,
        release=None,
        artifact=None,
        declaration=None,
        sbom=None,
        signature=None,
        sandboxed=None,
        findings=(),
        trouble=None,
        provenance=Provenance(),
        actor="ana",
        actor_kind="person",
        attempt=1,
        builder=None,
        heard_at_ms=None,
        retry_at_ms=None,
        packages=None,
        access=None,
        created_at_ms=BEGUN_MS,
        updated_at_ms=updated_at_ms,
    )


def marks(*states: State, now: State | None = None) -> list[str]:
    """Of a submission that was in these states for two seconds each, and is in the last, or `now`."""
    events = [
        Event(seq=number, at_ms=BEGUN_MS + number * 2_000, state=state, step=state.value)
        for number, state in enumerate(states)
    ]
    found = way_of(submission(now or states[-1]), events, BEGUN_MS + len(states) * 2_000)
    return [step.mark for step in found]


S = State


@pytest.mark.parametrize(
    ("states", "row"),
    [
        ((S.SUBMITTED,), "now ahead ahead ahead ahead"),
        ((S.SUBMITTED, S.BUILT), "done now ahead ahead ahead"),
        ((S.SUBMITTED, S.BUILT, S.CHECKED, S.IN_REVIEW), "done done now ahead ahead"),
        ((S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED), "done done skipped now ahead"),
        ((S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED, S.DEPLOYING, S.LIVE), "done done skipped done done"),
        ((S.SUBMITTED, S.FAILED), "failed never never never never"),
        ((S.SUBMITTED, S.BUILT, S.FAILED), "done failed never never never"),
        ((S.SUBMITTED, S.BUILT, S.CHECKED, S.IN_REVIEW, S.SUPERSEDED), "done done ended never never"),
        ((S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED, S.DEPLOYING, S.FAILED), "done done skipped failed never"),
        (
            (S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED, S.DEPLOYING, S.LIVE, S.ROLLED_BACK),
            "done done skipped done failed",
        ),
        (
            (S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED, S.DEPLOYING, S.LIVE, S.SUPERSEDED),
            "done done skipped done done",
        ),
    ],
)
def test_each_step_says_whether_it_is_done_or_to_come_or_what_it_came_to(states: tuple[State, ...], row: str) -> None:
    assert marks(*states) == row.split()


def test_of_a_submission_of_which_nothing_is_noted_the_row_is_there_all_the_same() -> None:
    assert [step.took for step in way_of(submission(S.SUBMITTED), [], BEGUN_MS)] == ["", "", "", "", ""]


def test_a_step_that_is_gone_through_twice_took_both_times_together() -> None:
    states = (S.SUBMITTED, S.BUILT, S.CHECKED, S.APPROVED, S.DEPLOYING, S.LIVE, S.ROLLED_BACK, S.DEPLOYING, S.LIVE)
    events = [Event(seq=n, at_ms=BEGUN_MS + n * 2_000, state=state, step="") for n, state in enumerate(states)]
    found = {step.title: step.took for step in way_of(submission(S.LIVE), events, BEGUN_MS + 40_000)}
    assert (found["Build"], found["Deploy"], found["Live"]) == ("2.0 s", "6.0 s", "26 s")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.84, "0.8 s"), (14.2, "14 s"), (95, "1 min 35 s"), (5400, "1 h 30 min"), (86_400 * 3 + 7_300, "3 d 2 h")],
)
def test_durations_are_exact_while_short_and_two_units_once_long(seconds: float, words: str) -> None:
    assert lasted(seconds).startswith(words)
