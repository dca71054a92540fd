"""A hub that is killed at any moment of a submission's way has all that it acknowledged, and goes on where it was."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pegboard.core.publishing import NEXT, UNDER_WAY, State
from pegboard_hub.publishing.submissions import Submission
from tests.hub.company import Company, Hub, opened
from tests.hub.killing import Step, killed_again_and_again
from tests.hub.publishing_life import PROD, built, decided
from tests.hub.publishing_rig import states, work
from tests.hub.reviewing import server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.both_databases(heavy=True),
]

KILLS = ((1, 0), (2, 1), (4, 0), (6, 3), (9, 0), (12, 7), (16, 2), (21, 5))
"""After how many acknowledged steps the hub is killed, and how many milliseconds later."""

THROUGH = frozenset(
    {
        State.SUBMITTED,
        State.BUILT,
        State.CHECKED,
        State.IN_REVIEW,
        State.APPROVED,
        State.FAILED,
        State.SUPERSEDED,
    }
)
"""States that its lives go through, killed in each; those of what runs are in `test_rollout_survives`."""


async def test_whatever_was_acknowledged_is_there_and_goes_on(company: Company) -> None:
    acknowledged = await killed_again_and_again("publishing_life", company, KILLS)
    async with opened(company) as hub:
        await check(hub, acknowledged, acknowledged[-1][0])


async def check(hub: Hub, acknowledged: list[Step], last: int) -> None:
    await work(hub)
    every = await hub.parts.publishing.listed(PROD, limit=1000)
    known = {each.id: each for each in every}
    paths = {each.id: [State(state) for state in await states(hub, each.id)] for each in every}
    for _, state, id_ in acknowledged:
        assert State(state) in paths[id_], f"{id_} was told to be {state}"
    for id_, path in paths.items():
        assert path[0] is State.SUBMITTED
        assert path[-1] is known[id_].state
        assert all(after in NEXT[before] for before, after in pairwise(path)), path
        assert (known[id_].signature is not None) is (State.CHECKED in path)
    assert {state for path in paths.values() for state in path} >= THROUGH
    assert sum(each.state is State.IN_REVIEW for each in every) <= 1
    # One that is not over yet goes on.
    for each in every:
        for _ in range(5 if each.state is State.SUBMITTED else 0):
            # The killed one's clock may have been ahead of this one's by any part of a claim.
            await built(hub, last)
            await work(hub)
    if server(hub, PROD).waiting is not None:
        await decided(hub, yes=True)
    after = {each.id: each for each in await hub.parts.publishing.listed(PROD, limit=1000)}
    left = [each for each in after.values() if each.state in UNDER_WAY - {State.APPROVED}]
    assert left == [], [(each.id, each.state) for each in left]
    assert _approved(after.values())


def _approved(found: object) -> list[Submission]:
    return [each for each in found if each.state is State.APPROVED]  # type: ignore[attr-defined]
