"""What an approval is bound to: one digest has one meaning."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.core.approval import NEXT, OPEN, State, Unbindable, canonical_arguments

EXACT = 2**53 - 1
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-EXACT, EXACT),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


@given(st.dictionaries(KEYS, JSON))
def test_what_runs_has_the_digest_that_was_approved(arguments: dict[str, Any]) -> None:
    run, digest = canonical_arguments(arguments)
    assert canonical_arguments(run) == (run, digest)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"n": 1}, {"n": 1.0}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"n": 0}, {"n": -0.0}), ({"n": 100}, {"n": 1e2})],
)
def test_two_spellings_of_one_digest_run_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    ran, also = canonical_arguments(one), canonical_arguments(other)
    assert repr(ran) == repr(also)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"t": "\u00e9"}, {"t": "e\u0301"}),
        ({"n": 1}, {"n": "1"}),
        ({"n": None}, {}),
        ({"n": True}, {"n": 1}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
    ],
)
def test_what_differs_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical_arguments(one)[1] != canonical_arguments(other)[1]


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", 10**400, "x" * 300_000])
def test_what_nobody_can_approve_exactly_is_refused_with_a_mend(value: Any) -> None:
    with pytest.raises(Unbindable, match="nobody can"):
        canonical_arguments({"value": value})


def test_what_ended_goes_nowhere_but_to_the_truth() -> None:
    ends = {state for state, after in NEXT.items() if not after}
    assert ends == set(State) - OPEN - {State.CLAIMED, State.UNKNOWN}
    assert NEXT[State.UNKNOWN] == {State.DONE, State.FAILED}
