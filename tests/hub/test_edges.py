"""Joined edges at the hub: added and removed, told apart, told the news, listened to, and waited for."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from pegboard.core.bundle import EDGE, Bundle, open_bundle
from pegboard.core.jose import Verifier
from pegboard_hub.common.joining import read_join_file
from pegboard_hub.edge.agent import EdgeAgent, Joined
from pegboard_hub.edge.link import DOOR, Removed
from pegboard_hub.edges import service
from pegboard_hub.edges.service import AWAY_S, KEEP_S, MOST_EDGES
from pegboard_hub.registry import key_rotation
from pegboard_hub.runtime import looking
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.upkeep.checks import running as checks
from pegboard_hub.upkeep.finding import State
from pegboard_hub.web.internal import edges as door
from tests.hub.company import URL, Company, Hub, beside, opened, plain
from tests.hub.joined import at, join, listed, operator
from tests.hub.test_key_rotation import Fleet, asked, awaited, states
from tests.oauth import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question is held open for long, and nothing needs to settle."""
    monkeypatch.setattr(door, "HOLD_S", 0.05)
    monkeypatch.setattr(key_rotation, "SETTLE_S", 0.0)


def later(hub: Hub, seconds: float) -> None:
    """Let time go by for the hub's look at edges."""
    hub.parts.edges._clock = lambda: time.time() + seconds


async def test_a_joined_edge_gets_a_bundle_of_its_own_that_says_what_the_first_edges_says(
    hub: Hub, company: Company, tmp_path: Path
) -> None:
    edge = await join(hub, tmp_path)
    assert await edge.link.ask()
    own = read(company, company.home.edge_bundle, EDGE)
    joined = read(company, edge.home.edge_bundle, "edge:second")
    same = {"consumer", "version", "issued_at"}
    assert joined.model_dump(exclude=same) == own.model_dump(exclude=same)
    assert edge.version == joined.version
    assert edge.home.bundle_keys.read_text() == company.home.bundle_keys.read_text()


async def test_news_are_told_as_they_are_written_and_nothing_new_is_not_told_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = await join(hub, tmp_path)
    assert await edge.link.ask()
    assert not await edge.link.ask()
    monkeypatch.setattr(door, "HOLD_S", 30.0)
    waiting = asyncio.create_task(edge.link.ask())
    await asyncio.sleep(0)
    before = edge.version
    async with beside(hub.parts.registry.watch_revoked()):
        await hub.parts.stopping.stop(MACHINE, "person", "fay", "left", None)
        assert await asyncio.wait_for(waiting, 10)
    assert edge.version > before
    assert edge.standing.bundle is not None
    assert edge.standing.bundle.stops.people == {"fay": "left"}


async def test_each_edge_has_a_name_a_credential_and_a_row_that_stays(hub: Hub, tmp_path: Path) -> None:
    await join(hub, tmp_path, "b")
    await join(hub, tmp_path, "a")
    await operator(hub, "POST", "/remove", {"name": "b", "why": "the machine is given back"})
    again = await operator(hub, "POST", body={"name": "b"})
    assert again.status_code == 201
    found = (await operator(hub, "GET")).json()["edges"]
    assert [(each["name"], each["standing"]) for each in found] == [
        ("edge", "unknown"),
        ("a", "never"),
        ("b", "never"),
        ("b", "removed"),
    ]
    assert found[-1]["removed_why"] == "the machine is given back"
    assert "credential" not in json.dumps(found)


@pytest.mark.parametrize(
    ("name", "status"),
    [("edge", 422), ("", 422), ("Second", 422), ("a/b", 422), ("../x", 422), ("a" * 32, 422), ("second", 409)],
)
async def test_a_name_that_cannot_be_or_is_taken_is_refused_with_a_mend(
    hub: Hub, tmp_path: Path, name: str, status: int
) -> None:
    await join(hub, tmp_path)
    answer = await operator(hub, "POST", body={"name": name})
    assert answer.status_code == status
    assert answer.json()["error"]["what_to_do"]


async def test_there_are_so_many_edges_at_most(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "MOST_EDGES", 1)
    assert MOST_EDGES > 1
    await join(hub, tmp_path)
    assert (await operator(hub, "POST", body={"name": "third"})).status_code == 409


async def test_a_removed_edge_is_told_so_and_keeps_nothing_to_start_from(hub: Hub, tmp_path: Path) -> None:
    edge = await join(hub, tmp_path)
    await edge.link.ask()
    assert edge.version
    bundle = hub.parts.rotation.keys.home.joined_edge_bundle("second")
    assert bundle.exists()
    await operator(hub, "POST", "/remove", {"name": "second", "why": "stolen"})
    with pytest.raises(Removed, match="stolen"):
        await edge.link.ask()
    assert not bundle.exists()
    assert not [*edge.home.edge.glob("*.jws"), *edge.home.edge_bundle.parent.iterdir()]
    assert (await edge.post("word", edge.word())).status_code == 401


async def test_nothing_is_removed_without_a_reason_or_twice(hub: Hub, tmp_path: Path) -> None:
    await join(hub, tmp_path)
    assert (await operator(hub, "POST", "/remove", {"name": "second", "why": "  "})).status_code == 422
    assert (await operator(hub, "POST", "/remove", {"name": "other", "why": "x"})).status_code == 404
    assert (await operator(hub, "POST", "/remove", {"name": "second", "why": "x"})).status_code == 200
    again = await operator(hub, "POST", "/remove", {"name": "second", "why": "x"})
    assert (again.status_code, "was removed already" in again.text) == (404, True)


async def test_how_an_edge_is_is_what_it_said_last_and_how_long_ago(hub: Hub, tmp_path: Path) -> None:
    edge = await join(hub, tmp_path)
    await edge.link.ask()
    edge.faults = ("Envoy refused rds.json and goes on with the one before",)
    await edge.link.tell(edge.word())
    found = (await listed(hub))["second"]
    assert (found["standing"], found["version"], found["faults"]) == ("live", edge.version, list(edge.faults))
    assert found["newest"] == edge.version
    edge.state = "starting"
    await edge.link.tell(edge.word())
    assert (await listed(hub))["second"]["standing"] == "unready"
    hub.parts.edges._since -= 2 * AWAY_S
    later(hub, AWAY_S + 1)
    assert (await listed(hub))["second"]["standing"] == "away"


async def test_an_edge_says_that_it_decides_with_a_bundle_once_envoy_was_given_what_follows_from_it(
    hub: Hub, company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, told = await join(hub, tmp_path), list[object]()
    await edge.link.ask()
    joined = Joined(company.home, edge.home.edge_credential, "edge:second", DOOR)
    agent = EdgeAgent(edge.home, URL, 8401, ("127.0.0.1",), joined=joined)

    async def publish(_: object) -> None:
        told.append(agent.bundle)

    monkeypatch.setattr(agent._publisher, "publish", publish)
    assert await agent.refresh()
    assert told == [None]
    assert agent.bundle is not None
    assert agent.bundle.version == edge.version


async def test_what_edges_said_survives_the_hub_which_then_gives_them_time_to_come(
    company: Company, tmp_path: Path
) -> None:
    async with opened(company) as hub:
        edge = await join(hub, tmp_path)
        await edge.link.tell(edge.word())
        await hub.parts.edges.keep_once()
    async with opened(company) as hub:
        assert (await listed(hub))["second"]["standing"] == "live"
        hub.parts.edges._since += 2 * AWAY_S
        later(hub, 2 * AWAY_S + KEEP_S)
        assert (await listed(hub))["second"]["standing"] == "awaited"
        edge = at(hub, edge.join, tmp_path / "second")
        assert await edge.link.ask()


async def test_a_new_key_signs_only_after_every_live_edge_has_it(hub: Hub, company: Company, tmp_path: Path) -> None:
    fleet, edge, late = Fleet(company), await join(hub, tmp_path), await join(hub, tmp_path, "late")
    for each in (edge, late):
        await each.link.ask()
        await each.link.tell(each.word())
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub)
    await edge.link.ask()
    assert (await edge.acknowledge()).status_code == 204
    await hub.parts.rotation.step()
    assert awaited(await asked(hub)) == {"tokens": {"edge:late"}}
    await late.link.ask()
    await late.acknowledge()
    await hub.parts.rotation.step()
    assert states(company)[0] == ["retired", "current"]


async def test_an_edge_that_is_away_or_never_came_holds_up_no_rotation_and_has_the_key_when_it_is_back(
    hub: Hub, company: Company, tmp_path: Path
) -> None:
    fleet, edge = Fleet(company), await join(hub, tmp_path)
    await join(hub, tmp_path, "never")
    await edge.link.ask()
    hub.parts.edges._since -= 2 * AWAY_S
    later(hub, AWAY_S + 1)
    await asked(hub, "tokens", "bundles")
    for _ in range(2):
        await hub.parts.rotation.step()
        await fleet.acknowledge(hub)
    await hub.parts.rotation.step()
    assert states(company) == (["retired", "current"], ["current"])
    # Its own keys are of before both rotations, and it takes the news all the same: the hub proves who it is.
    before = edge.version
    assert await edge.link.ask()
    assert edge.version > before
    assert (await edge.acknowledge()).status_code == 204


async def test_refusals_of_a_joined_edge_are_in_the_ledger_with_the_edge_that_told_them(
    hub: Hub, tmp_path: Path
) -> None:
    edge = await join(hub, tmp_path)
    who = {"sub": "ana", "sub_type": "person", "surface": "cli", "client_id": "pegboard-cli"}
    refusal = {
        "request_id": "r1",
        "at_ms": int(time.time() * 1000),
        "server": "prod/presto",
        "status": 403,
        "code": "access_denied",
        "reason": "group_not_granted",
        "who": who,
    }
    assert (await edge.post("refusals", {"refusals": [refusal]})).json() == {"accepted": 1}
    assert (await edge.post("refusals", {"refusals": [refusal]})).status_code == 200
    [call] = await hub.calls("pat")
    assert call["detail"] == "HTTP 403, told by the edge second"


async def test_a_join_file_that_others_may_read_or_that_is_none_is_refused_without_its_content(
    hub: Hub, tmp_path: Path
) -> None:
    edge = await join(hub, tmp_path)
    file = edge.home.join_file
    assert read_join_file(file) == edge.join
    file.chmod(0o644)
    with pytest.raises(Exception, match="chmod 600") as refused:
        read_join_file(file)
    file.chmod(0o600)
    file.write_text(edge.join.model_dump_json().replace('"name":"second"', '"name":"EDGE"'))
    with pytest.raises(Exception, match="name") as refused:
        read_join_file(file)
    assert edge.join.credential not in str(refused.value)


def read(company: Company, path: Path, consumer: str) -> Bundle:
    verifier = Verifier(json.loads(company.home.bundle_keys.read_text()))
    return open_bundle(path.read_text(), verifier, consumer)


async def signed_in(hub: Hub, person: str) -> None:
    await Browser(URL, hub.public).sign_in(person)


async def test_operators_and_security_see_every_edge_on_the_page_and_in_the_api_and_nobody_else(
    hub: Hub, tmp_path: Path
) -> None:
    edge = await join(hub, tmp_path)
    edge.faults = ("<b>Envoy</b> refused rds.json",)
    await edge.link.ask()
    await edge.link.tell(edge.word())
    await join(hub, tmp_path, "gone")
    await operator(hub, "POST", "/remove", {"name": "gone", "why": "<i>old</i>"})
    found = (await hub.api("pat", "edges")).json()["edges"]
    assert [each["name"] for each in found] == ["edge", "second", "gone"]
    assert (await hub.api("ana", "edges")).status_code == 403
    await signed_in(hub, "pat")
    page = await hub.public.get("/edges")
    assert page.status_code == 200
    assert "1 edge is not as it should be." in plain(page.text)
    assert "&lt;b&gt;Envoy&lt;/b&gt; refused rds.json" in page.text
    assert "&lt;i&gt;old&lt;/i&gt;" in page.text
    hub.public.cookies.clear()
    await signed_in(hub, "ana")
    assert (await hub.public.get("/edges")).status_code == 403


async def test_a_page_without_joined_edges_says_how_one_is_added(hub: Hub) -> None:
    await signed_in(hub, "pat")
    assert "pegboard edge add" in (await hub.public.get("/edges")).text


async def test_metrics_tell_of_each_edge_that_came_and_of_none_that_was_removed(hub: Hub, tmp_path: Path) -> None:
    edge = await join(hub, tmp_path)
    await join(hub, tmp_path, "never")
    await edge.link.tell(edge.word())
    page = hub.parts.page.own().decode()
    assert 'pegboard_hub_joined_edge_up{edge="second"} 1.0' in page
    assert 'edge="never"' not in page
    hub.parts.edges._since -= 2 * AWAY_S
    later(hub, AWAY_S + 1)
    assert 'pegboard_hub_joined_edge_up{edge="second"} 0.0' in hub.parts.page.own().decode()
    await operator(hub, "POST", "/remove", {"name": "second", "why": "x"})
    assert 'edge="second"' not in hub.parts.page.own().decode()


def test_doctor_and_status_name_an_edge_that_is_away_or_refuses_something() -> None:
    edge = {"joined": True, "removed_at": None, "name": "second", "faults": [], "standing": "live"}

    def worst(**changes: object) -> State:
        return max((each.state for each in checks._edges({"edges": [edge | changes]})), key=list(State).index)

    assert worst() is State.WELL
    assert worst(standing="never") is State.WARNING
    assert worst(standing="away") is worst(faults=["x"]) is worst(standing="unready") is State.MEND
    seen = {"name": "second", "heard_at": 1000, "version": 7, "faults": ["x"], "standing": "away"}
    assert looking._joined(seen, 31.0) == ["edge second is away, heard of 30 s ago, with version 7", "edge second: x"]
