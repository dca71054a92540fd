"""A hub that is killed at any moment of a request's life has all that it acknowledged, and claims nothing twice."""

from __future__ import annotations

import pytest

from pegboard.core.approval import NEXT, State
from pegboard_hub.approvals.model import Reader, Which
from tests.hub.company import Company, Hub, opened
from tests.hub.killing import Step, killed_again_and_again

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.both_databases(heavy=True),
]

KILLS = ((1, 0), (2, 1), (3, 0), (5, 2), (8, 0), (13, 3), (17, 1), (22, 4))
"""After how many acknowledged steps the hub is killed, and how many milliseconds later."""


async def test_whatever_was_acknowledged_is_there_and_nothing_is_claimed_twice(company: Company) -> None:
    acknowledged = await killed_again_and_again("approvals_life", company, KILLS)
    async with opened(company) as hub:
        await check(hub, acknowledged)


async def check(hub: Hub, acknowledged: list[Step]) -> None:
    everybody = Reader("nobody", (), sees_all=True)
    approvals = hub.parts.approvals
    paths: dict[str, list[State]] = {}
    for _, state, id_ in acknowledged:
        request = await approvals.find(everybody, id_)
        assert request is not None
        paths[id_] = [event.after for event in request.events]
        assert State(state) in paths[id_], f"{id_} was acknowledged as {state}"
        assert request.state is paths[id_][-1]
        assert paths[id_].count(State.CLAIMED) <= 1
        assert all(after in NEXT[before] for before, after in zip(paths[id_], paths[id_][1:], strict=False))
    claims: dict[str, str] = {}
    page = await approvals.history(everybody, 200)
    requests = page.requests
    while page.after is not None:
        page = await approvals.history(everybody, 200, page.after, Which())
        requests = [*requests, *page.requests]
    for request in requests:
        if request.call_id:
            assert claims.setdefault(request.call_id, request.id) == request.id, "one call, one claim"
    assert set(map(tuple, paths.values())) >= {
        (State.REQUESTED, State.APPROVED, State.CLAIMED, State.DONE),
        (State.REQUESTED, State.REJECTED),
        (State.REQUESTED, State.WITHDRAWN),
        (State.REQUESTED, State.APPROVED, State.CLAIMED, State.UNKNOWN, State.DONE),
    }
