"""Who may decide on what runs of a server, and who may not: attacked at every door."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import pytest

from pegboard_hub.publishing.orders import DESIRED, OBSERVED
from tests.folders import new_folder
from tests.hub.company import Company, found_company
from tests.hub.rolling import SERVER, Rig, declared, rig_of

pytestmark = pytest.mark.anyio

ACTIONS = ("promote", "rollback", "pause", "resume", "scale")


@pytest.fixture
def company() -> Iterator[Company]:
    root = new_folder()
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        await found.live(1, 2)
        yield found


async def state(rig: Rig) -> tuple[Any, ...]:
    now = await rig.now()
    return (now.version, now.live, now.candidate, now.paused, rig.serves())


STRANGERS = ("ana", "fay", "sol", "lea", "gus")
"""People of other teams, of security and of legal, and one of no group."""

NO_RELEASES = (
    *("../../../etc", "%", "______", "a", "' or 1=1 --", "0" * 64, "sub" + "0" * 29),
    "\u0660\u0661\u0662\u0663\u0664\u0665",
)

NO_NUMBERS: tuple[dict[str, Any], ...] = (
    {"min": -1},
    {"max": 0},
    {"max": 101},
    {"min": 3, "max": 2},
    {"min": True},
    {"min": "1"},
)


async def test_nobody_but_owners_and_operators_decides(rig: Rig) -> None:
    before = await state(rig)
    for person, action in product(STRANGERS, [*(f"deployment/{each}" for each in ACTIONS), "deprecate", "retire"]):
        answer = await rig.post(person, action, why="mine now")
        assert answer.status_code in (403, 404), (person, action, answer.text)
    assert await state(rig) == before


async def test_nobody_decides_without_a_token_or_with_one_for_a_server(rig: Rig) -> None:
    token = await rig.hub.token("pat", resource=f"http://localhost:8400/mcp/{SERVER}")
    wrong = ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer operator-token-of-the-test"})
    for action, headers in product(ACTIONS, wrong):
        path = f"/api/v1/servers/{SERVER}/deployment/{action}"
        answer = await rig.hub.public.post(path, json={"why": "mine now"}, headers=headers)
        assert answer.status_code == 401, answer.text


async def test_no_release_is_deployed_that_is_not_an_approved_one_of_this_server(rig: Rig) -> None:
    before = await state(rig)
    for release, action in product(NO_RELEASES, ("promote", "rollback")):
        answer = await rig.post("pat", f"deployment/{action}", why="this one", release=release)
        assert answer.status_code in (404, 422), (release, answer.text)
    assert await state(rig) == before


async def test_a_release_that_was_never_approved_is_not_promoted(rig: Rig) -> None:
    third = await rig.approve(3)
    await rig.reject(third)
    answer = await rig.post("pat", "deployment/promote", why="this one", release=declared(3).digest)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert rig.serves() == declared(2).digest


async def test_a_release_of_another_server_is_not_deployed(rig: Rig) -> None:
    await rig.approve(7, "prod/other")
    await rig.look()
    answer = await rig.post("pat", "deployment/rollback", why="this one", release=declared(7, "prod/other").digest)
    assert answer.status_code == 404
    assert rig.serves() == declared(2).digest


async def test_no_number_of_replicas_that_cannot_be(rig: Rig) -> None:
    before = await state(rig)
    for body in NO_NUMBERS:
        assert (await rig.post("pat", "deployment/scale", why="more", **body)).status_code == 422, body
    assert await state(rig) == before


async def test_nobody_but_the_operators_own_process_is_told_what_runs_or_says_what_does(rig: Rig) -> None:
    word = {"runtime": "machine", "version": "", "releases": []}
    for token in ("", "channel-of-prod/presto", "a" * 64):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert (await rig.hub.internal.get(DESIRED, headers=headers)).status_code == 401
        assert (await rig.hub.internal.post(OBSERVED, json=word, headers=headers)).status_code == 401
        assert (await rig.hub.public.get(DESIRED, headers=headers)).status_code == 404


async def test_what_a_runtime_says_is_held_to_its_model(rig: Rig) -> None:
    assert rig.machine.told is not None
    sent = rig.machine.observed(rig.machine.told).model_dump(mode="json") | {"more": 1}
    headers = {"Authorization": "Bearer operator-token-of-the-test"}
    assert (await rig.hub.internal.post(OBSERVED, json=sent, headers=headers)).status_code == 422
