"""How many replicas there are: more at once, fewer after a calm while, none where nobody has called for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard_hub.publishing.orders import Scale
from pegboard_hub.runtime.machine.scaling import CALM_S, Load, Scaling, renewed, scaled, woken

AUTO = Scale(min=1, max=4, in_flight=8, idle_s=900)
SLEEPER = Scale(min=0, max=2, in_flight=8, idle_s=60)


@pytest.mark.parametrize(
    ("calls", "wanted"), [(0, 1), (1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (32, 4), (33, 4), (10_000, 4)]
)
def test_as_many_as_the_calls_under_way_need_and_no_more_than_the_most(calls: int, wanted: int) -> None:
    assert scaled(Scaling(1, 0, 0), AUTO, Load(1, calls, in_use=calls > 0)).count == wanted


def test_fewer_only_after_they_were_not_needed_for_a_while() -> None:
    state = scaled(Scaling(1, 0, 0), AUTO, Load(0, 30, in_use=True))
    assert state.count == 4
    state = scaled(state, AUTO, Load(CALM_S, 1, in_use=True))
    assert state.count == 4
    state = scaled(state, AUTO, Load(CALM_S + 1, 1, in_use=True))
    assert state.count == 1


def test_calls_that_come_again_begin_the_calm_while_anew() -> None:
    state = scaled(Scaling(4, 0, 0), AUTO, Load(CALM_S - 1, 30, in_use=True))
    assert scaled(state, AUTO, Load(CALM_S + 1, 0, in_use=False)).count == 4


def test_what_is_set_holds_at_once_whatever_calls_there_are() -> None:
    assert scaled(Scaling(4, 0, 0), Scale(min=1, max=2), Load(1, 100, in_use=True)).count == 2
    assert scaled(Scaling(1, 0, 0), Scale(min=3, max=4), Load(1, 0, in_use=False)).count == 3


def test_none_after_nobody_called_for_long_and_one_only_by_a_connection() -> None:
    state = scaled(Scaling(1, 0, 0), SLEEPER, Load(30, 1, in_use=True))
    assert scaled(state, SLEEPER, Load(90, 0, in_use=False)).count == 1
    state = scaled(state, SLEEPER, Load(91, 0, in_use=False))
    assert state.count == 0
    assert scaled(state, SLEEPER, Load(1000, 0, in_use=False)).count == 0
    state = woken(state, 1001)
    assert state.count == 1
    assert scaled(state, SLEEPER, Load(1002, 0, in_use=False)).count == 1


def test_a_server_that_may_not_sleep_never_does() -> None:
    assert scaled(Scaling(1, 0, 0), AUTO, Load(1e9, 0, in_use=False)).count == 1


def test_one_that_sleeps_and_may_no_longer_wakes() -> None:
    assert scaled(Scaling(0, 0, 0), AUTO, Load(1, 0, in_use=False)).count == 1


@given(count=st.integers(1, 8), extra=st.integers(0, 3))
def test_replicas_are_replaced_without_ever_having_fewer_that_answer(count: int, extra: int) -> None:
    old, new, ready, steps = count + extra, 0, 0, 0
    while old:
        before = old + ready
        old, new = renewed(count, old, new, ready)
        assert old + ready >= min(count, before)
        assert old + new <= max(count, before) + 1
        ready = new  # they come up
        steps += 1
        assert steps < 50
    assert new == count


def test_replicas_that_do_not_come_up_take_nobodys_place() -> None:
    assert renewed(2, old=2, new=1, ready=0) == (2, 1)
    # More are wanted meanwhile: they are of the new turn.
    assert renewed(4, old=2, new=1, ready=0) == (2, 2)
