"""People decide on what runs: back, on, held, more or fewer. Through the API, as the command does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing.rollout import Stage
from tests.hub.company import Company
from tests.hub.rolling import SERVER, Rig, declared, rig_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        yield found


async def test_back_to_the_last_release_is_one_step_while_it_is_warm(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.look()
    answer = await rig.post("pat", "deployment/rollback", why="figures are wrong")
    assert answer.status_code == 200, answer.text
    # Nobody looked, and no runtime said anything in between: edges have it with the answer.
    assert rig.endpoints() == {declared(1).digest: 100, declared(2).digest: 0}
    assert rig.serves() == declared(1).digest
    assert await rig.state(second) == ("rolled back", "rolled back")
    entry = (await rig.hub.api("pat", f"servers/{SERVER}/history")).json()["entries"][0]
    assert (entry["action"], entry["actor"], entry["why"]) == ("roll back", "pat", "figures are wrong")


async def test_back_once_the_watch_is_over_starts_the_last_release_first_and_loses_no_call(rig: Rig) -> None:
    await rig.live(1, 2)
    answer = await rig.post("pat", "deployment/rollback", why="figures are wrong")
    assert answer.json()["going_back"] == "figures are wrong"
    assert rig.endpoints() == {declared(2).digest: 100}
    await rig.look()
    assert rig.serves() == declared(1).digest
    assert rig.endpoints() == {declared(1).digest: 100, declared(2).digest: 0}
    assert (await rig.state(f"sub{2:029x}"))[0] == "rolled back"
    now = await rig.now()
    assert (now.stage, now.proven, now.previous) == (Stage.SETTLED, True, None)


async def test_back_further_to_a_release_that_is_named(rig: Rig) -> None:
    await rig.live(1, 2, 3)
    answer = await rig.post("pat", "deployment/rollback", why="both are wrong", release=declared(1).digest[:12])
    assert answer.status_code == 200, answer.text
    await rig.look()
    assert rig.serves() == declared(1).digest
    assert (await rig.post("pat", "deployment/rollback", why="or that", release="1.0.1")).status_code == 200
    await rig.look()
    assert rig.serves() == declared(2).digest
    # And from there back again, by whoever finds that it was none of them.
    assert (await rig.post("pat", "deployment/promote", why="it was us", release=f"sub{3:029x}")).status_code == 200
    await rig.look()
    assert rig.serves() == declared(3).digest


async def test_a_candidate_is_given_up(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    rig.machine.slow.add(declared(2).digest)
    await rig.look()
    assert (await rig.post("pat", "deployment/rollback", why="not now")).status_code == 200
    assert await rig.state(second) == ("rolled back", "rolled back")
    await rig.look()
    assert rig.machine.roles() == {declared(1).digest: "live"}


async def test_nothing_to_go_back_to_is_said(rig: Rig) -> None:
    await rig.live(1)
    answer = await rig.post("pat", "deployment/rollback", why="figures are wrong")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (409, "not_now")
    assert answer.json()["error"]["message"] == "There is no release to go back to."


async def test_a_pause_holds_every_stage_and_a_breach_goes_back_all_the_same(rig: Rig) -> None:
    await rig.live(1)
    assert (await rig.post("pat", "deployment/pause", why="a freeze")).status_code == 200
    second = await rig.approve(2)
    await rig.look()
    assert (await rig.state(second))[0] == "approved"
    assert (await rig.post("pat", "deployment/resume", why="it is over")).status_code == 200
    await rig.deployments.look()
    assert (await rig.post("pat", "deployment/pause", why="we look at its log first")).status_code == 200
    await rig.look()
    rig.clock.pass_s(1000)
    await rig.look()
    assert await rig.state(second) == ("deploying", "paused")
    assert (await rig.post("pat", "deployment/promote", why="it is fine")).status_code == 200
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    assert (await rig.post("pat", "deployment/pause", why="over the weekend")).status_code == 200
    rig.clock.pass_s(100_000)
    await rig.look()
    assert (await rig.now()).stage is Stage.WATCHING
    rig.machine.broken[declared(2).digest] = "out of memory"
    await rig.machine.turn()
    await rig.deployments.look()
    assert (await rig.state(second))[0] == "rolled back"


async def test_who_will_not_wait_ends_the_watch(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.look()
    assert (await rig.post("pat", "deployment/promote", why="it is fine")).json()["stage"] == "settled"
    assert await rig.state(second) == ("live", "live")
    answer = await rig.post("pat", "deployment/promote", why="it is fine")
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, "Nothing is on its way.")


async def test_owners_have_other_numbers_of_replicas_than_the_manifest_says(rig: Rig) -> None:
    await rig.live(1)
    answer = await rig.post("pat", "deployment/scale", why="a busy week", min=3, max=5)
    assert answer.json()["scale"] == {
        "min": 3,
        "max": 5,
        "declared_min": 1,
        "declared_max": 1,
        "overridden": True,
    }
    await rig.look()
    assert sorted(rig.endpoints()) == [declared(1).digest]
    replicas = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()["replicas"]
    assert len(replicas) == 3
    # The next release comes up as wide, before it takes the calls.
    await rig.approve(2)
    await rig.deployments.look()
    await rig.machine.turn()
    assert rig.machine.told is not None
    scales = {each.release: each.scale for of in rig.machine.told.servers for each in of.releases}
    assert scales[declared(2).digest].min == 3
    assert (await rig.post("pat", "deployment/scale", why="as before")).json()["scale"]["overridden"] is False


async def test_nobody_goes_back_to_what_is_not_kept_any_more(rig: Rig) -> None:
    await rig.live(1, 2, 3)
    async with rig.hub.parts.database.write() as connection:
        await artifacts.let_go(connection, [f"sub{1:029x}"])
    named = await rig.post("pat", "deployment/rollback", why="it is slow", release=declared(1).digest[:12])
    assert named.status_code == 409
    assert "not kept any more" in named.text
    assert rig.endpoints() == {declared(3).digest: 100}


async def test_owners_of_what_nobody_reviews_have_no_more_memory_than_the_operator_says(rig: Rig) -> None:
    server = "dev/weather"
    await rig.approve(1, server, owner="ads-eng")
    await rig.look()
    # 512 MiB each, and 4,096 together.
    assert (await rig.post("ana", "deployment/scale", server, max=8)).status_code == 200
    refused = await rig.post("ana", "deployment/scale", server, max=9)
    assert refused.status_code == 422
    assert "4,608 MiB together, and 4,096 is the most" in refused.text


async def test_a_restart_is_told_to_the_runtime_and_stands_in_the_history(rig: Rig) -> None:
    await rig.live(1)
    assert (await rig.post("pat", "deployment/restart", why="its password changed")).status_code == 200
    await rig.look()
    assert rig.machine.told is not None
    [release] = [each for of in rig.machine.told.servers for each in of.releases]
    assert (release.release, release.turn) == (declared(1).digest, 1)
    history = (await rig.hub.api("pat", f"servers/{SERVER}/history")).json()
    newest = history["entries"][0]
    assert (newest["action"], newest["actor"], newest["why"]) == ("restart", "pat", "its password changed")
    assert rig.endpoints() == {declared(1).digest: 100}
    # Those whose server it is not start nothing anew, and what does not run cannot be.
    assert (await rig.post("ana", "deployment/restart")).status_code in (403, 404)


async def test_of_two_who_want_the_same_one_does_it_and_both_are_told(rig: Rig) -> None:
    import asyncio

    await rig.live(1)
    await rig.approve(2)
    await rig.look()
    answers = await asyncio.gather(
        *(rig.post("pat", "deployment/rollback", why=f"it is wrong, {n}") for n in range(4)), rig.deployments.look()
    )
    statuses = sorted(each.status_code for each in answers[:-1] if each is not None)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 409}
    assert rig.serves() == declared(1).digest
    lines = await rig.told(f"sub{2:029x}")
    assert sum(line.startswith("rolled back") for line in lines) == 1
