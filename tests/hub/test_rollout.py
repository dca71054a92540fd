"""A release takes over from another, boringly: ready first, then all calls, then watched, and back if it is worse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from pegboard_hub.common.tasks import end
from pegboard_hub.publishing.deployments import MOST_TRIES
from pegboard_hub.publishing.rollout import Stage
from pegboard_hub.publishing.steering import MACHINE
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.tables import servers
from pegboard_hub.storage.errors import StorageUnavailable
from tests.hub.company import OPERATOR, Company, call, denial
from tests.hub.rolling import SERVER, Rig, declared, rig_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        yield found


async def test_the_first_release_takes_the_calls_as_soon_as_it_answers(rig: Rig) -> None:
    first = await rig.approve(1)
    await rig.deployments.look()
    assert await rig.state(first) == ("deploying", "starting")
    assert rig.serves() is None
    assert rig.endpoints() == {}
    await rig.machine.turn()
    await rig.deployments.look()
    assert await rig.state(first) == ("live", "live")
    assert rig.serves() == declared(1).digest
    assert rig.endpoints() == {declared(1).digest: 100}


async def test_a_first_release_that_somebody_holds_is_nowhere_an_edge_would_send_a_call(rig: Rig) -> None:
    first = await rig.approve(1)
    await rig.deployments.look()
    await rig.steering.pause(MACHINE, SERVER, "let me look at it first")
    await rig.machine.turn()
    await rig.look()
    assert await rig.state(first) == ("deploying", "paused")
    assert rig.hub.parts.registry.current.servers[SERVER].endpoints == ()
    await rig.steering.resume(MACHINE, SERVER)
    await rig.look()
    assert rig.endpoints() == {declared(1).digest: 100}


async def test_the_last_release_stays_warm_until_the_watch_window_ends(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    assert rig.endpoints() == {declared(2).digest: 100, declared(1).digest: 0}
    await rig.machine.turn()
    assert rig.machine.roles() == {declared(1).digest: "warm", declared(2).digest: "live"}
    rig.clock.pass_s(301)
    await rig.look()
    assert await rig.state(second) == ("live", "live")
    rig.clock.pass_s(61)
    await rig.look()
    await rig.machine.turn()
    assert rig.machine.roles() == {declared(2).digest: "live"}
    assert rig.endpoints() == {declared(2).digest: 100}
    assert (await rig.now()).stage is Stage.SETTLED


async def test_a_release_that_never_answers_fails_with_its_last_words_and_the_live_one_is_untouched(rig: Rig) -> None:
    await rig.live(1)
    before = rig.hub.parts.registry.current.servers[SERVER]
    second = await rig.approve(2)
    rig.machine.broken[declared(2).digest] = "ImportError: no module named weather"
    await rig.look()
    for _ in range(20):
        rig.clock.pass_s(10)
        await rig.look()
    assert await rig.state(second) == ("failed", "failed")
    assert "no module named weather" in (await rig.told(second))[-1]
    after = rig.hub.parts.registry.current.servers[SERVER]
    assert (after.release, after.endpoints) == (before.release, before.endpoints)


def came(prefix: str, count: int, at_ms: int, status: str = "ok", duration_ms: float = 10.0) -> list[dict[str, Any]]:
    """Records of so many calls of Ana's."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        begun, ended = call(f"{prefix}-{number}", at_ms + number, tool="forecast", status=status)
        found += [begun, {**ended, "duration_ms": duration_ms}]
    return found


async def watched(rig: Rig) -> str:
    """Version 2 takes all calls and is watched; version 1 had a hundred calls that went well."""
    await rig.live(1)
    await rig.deliver(1, came("before", 100, int(rig.clock() * 1000) - 60_000))
    second = await rig.approve(2)
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    return second


async def test_a_release_whose_calls_fail_goes_back_by_itself_and_says_why(rig: Rig) -> None:
    second = await watched(rig)
    await rig.deliver(2, came("after", 30, int(rig.clock() * 1000), status="crashed"))
    rig.clock.pass_s(3)
    await rig.look()
    assert await rig.state(second) == ("rolled back", "rolled back")
    assert rig.serves() == declared(1).digest
    assert rig.endpoints() == {declared(1).digest: 100, declared(2).digest: 0}
    assert "100.0 % of its calls fail, and 0.0 % did before" in (await rig.told(second))[-1]
    entry = (await rig.hub.api("pat", f"servers/{SERVER}/history")).json()["entries"][0]
    assert (entry["action"], entry["actor"]) == ("roll back", "pegboard")
    assert "100.0 % of its calls fail" in entry["why"]


async def test_nothing_is_said_of_rates_before_there_are_enough_calls(rig: Rig) -> None:
    second = await watched(rig)
    await rig.deliver(2, came("after", 19, int(rig.clock() * 1000), status="crashed"))
    rig.clock.pass_s(3)
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    detail = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()
    assert detail["watch"]["unsaid"] == "19 of 20 calls that are wanted have come"


@pytest.mark.parametrize(
    ("status", "duration_ms", "said"),
    [
        ("ok", 90.0, "half of its calls take 90 ms and more, and it was 10 ms before"),
        ("ok", 29.0, ""),
        ("ok", 55.0, ""),
    ],
)
async def test_a_median_counts_where_somebody_feels_it(rig: Rig, status: str, duration_ms: float, said: str) -> None:
    second = await watched(rig)
    await rig.deliver(2, came("after", 30, int(rig.clock() * 1000), status, duration_ms))
    rig.clock.pass_s(3)
    await rig.look()
    assert (await rig.state(second))[0] == ("rolled back" if said else "live")
    assert said in (await rig.told(second))[-1]


async def test_a_release_that_denies_much_more_goes_back(rig: Rig) -> None:
    second = await watched(rig)
    now = int(rig.clock() * 1000)
    await rig.deliver(2, came("after", 20, now), [denial(f"denied-{n}", now + n, sub="ana") for n in range(20)])
    rig.clock.pass_s(3)
    await rig.look()
    assert (await rig.state(second))[0] == "rolled back"
    assert "its policies deny 50.0 % of the calls" in (await rig.told(second))[-1]


async def test_a_replica_that_fails_counts_at_once(rig: Rig) -> None:
    second = await watched(rig)
    rig.machine.broken[declared(2).digest] = "it used more than 512 MiB"
    await rig.machine.turn()
    await rig.deployments.look()
    assert (await rig.state(second))[0] == "rolled back"
    assert "a replica fails: it used more than 512 MiB" in (await rig.told(second))[-1]


async def test_nobody_goes_back_to_what_does_not_answer_either(rig: Rig) -> None:
    second = await watched(rig)
    rig.machine.broken |= {declared(2).digest: "the disk is full", declared(1).digest: "the disk is full"}
    await rig.machine.turn()
    await rig.deployments.look()
    assert (await rig.state(second))[0] == "live"
    assert rig.endpoints()[declared(2).digest] == 100
    del rig.machine.broken[declared(1).digest]
    await rig.machine.turn()
    await rig.deployments.look()
    assert (await rig.state(second))[0] == "rolled back"


async def test_a_newer_release_takes_the_place_of_one_that_is_on_its_way(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    rig.machine.slow.add(declared(2).digest)
    await rig.look()
    third, fourth = await rig.approve(3), await rig.approve(4)
    await rig.look()
    assert (await rig.state(second))[0] == "superseded"
    assert (await rig.state(third))[0] == "superseded"
    assert await rig.state(fourth) == ("live", "watching")
    assert (await rig.now()).previous == f"sub{1:029x}"


async def test_what_was_never_proven_is_nothing_to_go_back_to(rig: Rig) -> None:
    await rig.live(1)
    await rig.approve(2)
    await rig.look()
    third = await rig.approve(3)
    await rig.look()
    await rig.machine.turn()
    await rig.deployments.look()
    assert await rig.state(third) == ("live", "watching")
    # Version 2 was live, and nobody knows yet whether it is good.
    assert (await rig.now()).previous == f"sub{1:029x}"
    assert rig.machine.roles() == {
        declared(3).digest: "live",
        declared(1).digest: "warm",
        declared(2).digest: "draining",
    }


async def test_a_watch_that_a_failed_release_cut_short_begins_anew(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.look()
    rig.machine.broken[declared(3).digest] = "it ends at once"
    third = await rig.approve(3)
    for _ in range(20):
        await rig.look()
        rig.clock.pass_s(10)
    assert (await rig.state(third))[0] == "failed"
    assert ((await rig.now()).stage, (await rig.now()).previous) == (Stage.WATCHING, f"sub{1:029x}")
    rig.clock.pass_s(301)
    await rig.look()
    assert (await rig.now()).proven
    await rig.approve(4)
    await rig.look()
    assert (await rig.now()).previous == second


async def test_a_server_that_is_retired_meanwhile_runs_no_more_and_nothing_comes_up(rig: Rig) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.deployments.look()
    async with rig.hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": "nobody uses it"}
        await changing.apply(Change(SERVER, PEGBOARD, "retire", "nobody uses it", values=values))
    await rig.look()
    assert (await rig.state(second))[0] == "superseded"
    assert "retired" in (await rig.told(second))[-1]
    assert rig.machine.told is not None
    assert rig.machine.told.servers == ()
    assert rig.endpoints() == {}
    async with rig.hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.APPROVED, "lifecycle_why": ""}
        await changing.apply(Change(SERVER, PEGBOARD, "bring back", "it is used", values=values))
    await rig.look()
    assert rig.endpoints() == {declared(1).digest: 100}


async def test_steps_are_taken_where_enough_calls_come_and_said_to_be_skipped_where_not(rig: Rig) -> None:
    rollout = {"steps": [1, 25, 50], "step_minutes": 5}
    await rig.live(1, rollout=rollout)
    digest, next_digest = declared(1, rollout=rollout).digest, declared(2, rollout=rollout).digest
    await rig.deliver(1, came("busy", 1500, int(rig.clock() * 1000) - 3_000_000), rollout=rollout)
    second = await rig.approve(2, rollout=rollout)
    await rig.look()
    assert await rig.state(second) == ("deploying", "25 percent")
    assert "1 percent would say nothing" in (await rig.told(second))[-1]
    assert rig.endpoints() == {digest: 75, next_digest: 25}
    assert rig.serves() == digest
    rig.clock.pass_s(301)
    await rig.look()
    assert await rig.state(second) == ("deploying", "50 percent")
    rig.clock.pass_s(301)
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    assert rig.serves() == next_digest


async def test_a_server_that_is_hardly_called_takes_no_steps_and_says_so(rig: Rig) -> None:
    rollout = {"steps": [25, 50]}
    await rig.live(1, rollout=rollout)
    second = await rig.approve(2, rollout=rollout)
    await rig.look()
    assert await rig.state(second) == ("live", "watching")
    assert any("no step of 25, 50 percent says anything" in line for line in await rig.told(second))
    detail = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()
    assert [each["says_something"] for each in detail["steps"]] == [False, False]


async def test_a_candidate_that_is_worse_at_a_step_fails_and_the_rest_never_met_it(rig: Rig) -> None:
    rollout = {"steps": [25]}
    await rig.live(1, rollout=rollout)
    await rig.deliver(1, came("busy", 1500, int(rig.clock() * 1000) - 3_000_000), rollout=rollout)
    second = await rig.approve(2, rollout=rollout)
    await rig.look()
    await rig.deliver(2, came("after", 30, int(rig.clock() * 1000), status="tool_error"), rollout=rollout)
    rig.clock.pass_s(3)
    await rig.look()
    assert (await rig.state(second))[0] == "failed"
    assert rig.serves() == declared(1, rollout=rollout).digest
    assert rig.endpoints()[declared(1, rollout=rollout).digest] == 100


async def test_a_server_is_told_to_do_as_its_replicas_do(rig: Rig) -> None:
    async def status() -> str:
        await rig.look()
        return str((await rig.hub.api("ana", f"servers/{SERVER}")).json()["status"])

    await rig.live(1)
    assert await status() == "live"
    rig.machine.asleep.add(declared(1).digest)
    assert await status() == "live"
    rig.machine.asleep.clear()
    rig.machine.broken[declared(1).digest] = "boom"
    assert await status() == "down"
    # Why is for those who look after it. No endpoint is taken away: who calls hears it of the one that should answer.
    assert "boom" not in (await rig.hub.api("ana", f"servers/{SERVER}")).text
    assert rig.endpoints() == {declared(1).digest: 100}
    rig.clock.pass_s(60)
    await rig.deployments.look()
    assert str((await rig.hub.api("ana", f"servers/{SERVER}")).json()["status"]) == "unknown"


async def test_the_operator_is_told_of_what_is_on_its_way(rig: Rig) -> None:
    async def told() -> dict[str, str]:
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        answer = await rig.hub.internal.get("/internal/v1/grants", headers=headers)
        return dict(answer.json()["deploying"])

    await rig.live(1)
    assert await told() == {}
    await rig.approve(2)
    await rig.deployments.look()
    assert await told() == {SERVER: "has a release that comes up"}
    await rig.look()
    assert await told() == {SERVER: "has a new release that is watched"}


async def _submitted(rig: Rig, *, is_so: bool) -> None:
    """The operator's file names a folder for the server, or does not any more."""
    values = {"submitted": is_so, "source": "" if is_so else "servers/weather"}
    async with rig.hub.parts.registry.changing() as changing:
        await changing.apply(Change(SERVER, PEGBOARD, "import", "the grants file says so", values=values))


async def test_what_was_live_before_a_folder_was_followed_never_comes_up_by_itself(rig: Rig) -> None:
    await rig.live(1, 2)
    waits = await rig.approve(3)
    await _submitted(rig, is_so=False)
    assert rig.endpoints() == {}, "the folder's own process answers"
    await rig.look()
    assert (await rig.state(waits))[0] == "superseded"
    assert "names a folder" in (await rig.told(waits))[-1]
    assert (await rig.now()).live is None
    rig.clock.pass_s(61)
    await rig.look()
    assert rig.machine.roles() == {}
    # Submitted again, it begins with nothing: neither live, nor gone back to by itself.
    await _submitted(rig, is_so=True)
    await rig.look()
    assert (rig.machine.roles(), rig.endpoints()) == ({}, {})
    await rig.live(4)
    assert rig.endpoints() == {declared(4).digest: 100}
    answer = await rig.post("pat", "deployment/rollback", why="it is slow")
    assert answer.status_code == 409
    assert "no release to go back to" in answer.text


async def test_a_hub_that_finds_something_live_of_a_server_that_left_the_pipeline_ends_it(rig: Rig) -> None:
    await rig.live(1)
    async with rig.hub.parts.database.write() as connection:
        await connection.execute(update(servers).where(servers.c.name == SERVER).values(submitted=False))
    current = rig.hub.parts.registry.current
    left = replace(current.servers[SERVER], submitted=False)
    rig.hub.parts.registry.current = current.with_servers({SERVER: left}, current.seq)
    await rig.look()
    assert (await rig.now()).live is None
    assert rig.endpoints() == {}


async def test_a_candidate_that_the_hub_cannot_bring_on_its_way_fails_and_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.live(1)
    second = await rig.approve(2)
    await rig.deployments.look()

    async def broken(*_: object) -> None:
        raise ValueError("its row is broken")

    monkeypatch.setattr(rig.deployments, "_serve", broken)
    for _ in range(MOST_TRIES):
        await rig.look()
    assert (await rig.state(second))[0] == "failed"
    assert "could not bring it on its way" in (await rig.told(second))[-1]
    assert rig.endpoints() == {declared(1).digest: 100}


async def test_releases_of_long_ago_are_known_no_more_and_can_be_gone_back_to(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.publishing.deployments.SPARE", 0)
    await rig.live(1, 2, 3, 4, 5)
    assert len(rig.deployments.known) < 5
    answer = await rig.post("pat", "deployment/rollback", why="the first was best", release=declared(1).digest[:12])
    assert answer.status_code == 200, answer.text
    await rig.look()
    assert rig.endpoints()[declared(1).digest] == 100


async def test_a_database_that_is_away_is_said_once_and_not_at_every_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = asyncio.Semaphore(0)

    async def away() -> None:
        looks.release()
        raise StorageUnavailable("its disk is full")

    monkeypatch.setattr("pegboard_hub.publishing.deployments.LOOK_S", 0.001)
    monkeypatch.setattr(rig.deployments, "look", away)
    keeping = asyncio.create_task(rig.deployments.keep())
    for _ in range(5):
        await looks.acquire()
    await end(keeping)
    assert [each.message for each in caplog.records] == ["deployments wait for the database: its disk is full"]
