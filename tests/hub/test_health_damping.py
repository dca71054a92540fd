"""A server's state follows from its looks by one table, whatever they are."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pegboard_hub.health.damping import Damped, Rules, observe

RULES = Rules(failures=3, successes=2, turns=4, window_ms=60_000, calm_ms=20_000)
FAULT = "timed out after 2 s"

Looks = list[tuple[int, bool]]
looks = st.lists(st.tuples(st.integers(1, 15_000), st.booleans()), max_size=120)
"""How long after the one before, and whether it was good."""


def run(given: Looks, start_ms: int = 1_000_000) -> list[tuple[int, bool, Damped]]:
    """Every look with its time, and what follows from all up to it."""
    times = itertools.accumulate((wait for wait, _ in given), initial=start_ms)
    states, found = Damped(), []
    for at_ms, (_, well) in zip(itertools.islice(times, 1, None), given, strict=True):
        states = observe(states, at_ms, "" if well else FAULT, RULES)
        found.append((at_ms, well, states))
    return found


def turns(found: list[tuple[int, bool, Damped]], upto: int) -> list[int]:
    """When looks turned, of the first `upto + 1`."""
    pairs = itertools.pairwise(found[: upto + 1])
    return [later[0] for earlier, later in pairs if earlier[1] != later[1]]


@given(looks)
def test_down_is_told_only_of_a_server_whose_last_looks_were_all_bad(given: Looks) -> None:
    found = run(given)
    for place, (_, _, now) in enumerate(found):
        before = found[place - 1][2].state if place else "unknown"
        last = [well for _, well, _ in found[max(place - RULES.failures + 1, 0) : place + 1]]
        if now.state == "down" and before != "down":
            assert last == [False] * RULES.failures
        if now.state == "live" and before == "down":
            assert last[-RULES.successes :] == [True] * RULES.successes


@given(looks)
def test_as_many_bad_looks_as_it_takes_are_never_told_as_live(given: Looks) -> None:
    found = run(given)
    for place in range(RULES.failures - 1, len(found)):
        if not any(well for _, well, _ in found[place - RULES.failures + 1 : place + 1]):
            assert found[place][2].state in ("down", "flapping")


@given(looks)
def test_since_when_is_the_look_that_changed_it_and_why_is_there_whenever_it_is_not_live(given: Looks) -> None:
    before = Damped()
    for at_ms, _, now in run(given):
        assert now.since_ms == (before.since_ms if now.state == before.state else at_ms)
        assert bool(now.why) == (now.state in ("down", "flapping"))
        before = now


@given(looks)
def test_flapping_begins_with_too_many_turns_and_ends_only_in_calm(given: Looks) -> None:
    found = run(given)
    entered = 0
    for place, (at_ms, _, now) in enumerate(found):
        before = found[place - 1][2].state if place else "unknown"
        turned = turns(found, place)
        if now.state == "flapping" and before != "flapping":
            assert sum(at_ms - turn < RULES.window_ms for turn in turned) > RULES.turns
            entered = at_ms
        if before == "flapping" and now.state != "flapping":
            assert at_ms - max(turned) >= RULES.calm_ms
            assert at_ms > entered


@given(looks)
def test_transitions_are_few_however_a_server_behaves(given: Looks) -> None:
    found = run(given)
    moves = [
        now.since_ms
        for before, now in itertools.pairwise([Damped(), *(state for *_, state in found)])
        if before.state != now.state
    ]
    # Into and out of flapping at most once a calm; between, each change of verdict is a turn of its own.
    for move in moves:
        assert sum(move <= other < move + RULES.calm_ms for other in moves) <= RULES.turns + 3


def test_a_server_that_is_always_well_is_live_since_its_first_look() -> None:
    found = run([(1000, True)] * 50)
    assert {(now.state, now.since_ms) for *_, now in found} == {("live", found[0][0])}


def test_one_that_comes_and_goes_is_flapping_until_it_has_been_calm() -> None:
    found = run([(1000, place % 2 == 0) for place in range(10)] + [(1000, True)] * 30)
    assert [state for state, _ in itertools.groupby(now.state for *_, now in found)] == ["live", "flapping", "live"]
    flapping = next(now for *_, now in found if now.state == "flapping")
    assert flapping.why == f"it came and went more than 4 times in 1 minutes; last it {FAULT}"
