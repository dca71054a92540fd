"""What approvals go through is told: when they are asked for, when they are late, decided, and when nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.approval import Action, Ask, Kind, Requirement
from pegboard_hub.approvals import keeping
from pegboard_hub.approvals.model import Decider, Request, Verdict
from pegboard_hub.ledger.channels import Channel
from tests.hub.company import PRESTO, URL, Company, Hub, opened
from tests.hub.webhooks import Hook, Received, hook, notify_file

pytestmark = pytest.mark.anyio

ADS = Requirement(by="ads-eng", expires_s=3600)
OLI = Decider("oli", ("platform",), "Oli")


@dataclass
class Scene:
    """A hub with a receiver, and a server that asks."""

    hub: Hub
    receiver: Hook
    channel: Channel

    async def ask(
        self, *arguments: dict[str, Any], requirement: Requirement = ADS, kind: Kind = "approval", call: str = "c1"
    ) -> list[str]:
        """Ask for ana; gives the ids."""
        answer = await self.hub.parts.approvals.ask(
            self.channel,
            Ask(
                token=await self.hub.token("ana", resource=PRESTO),
                tool="run_query",
                kind=kind,
                requirement=requirement,
                policy="granted",
                policy_version="1",
                actions=tuple(Action(arguments=each) for each in arguments),
                call_id=call,
                process="p1",
            ),
        )
        return [each.id for each in answer.actions]

    async def request(self, id_: str) -> Request:
        found = await self.hub.parts.approvals.find(self.hub.parts.approvals.reader("ana", ()), id_)
        assert found is not None
        return found

    async def decide(self, by: Decider, **verdicts: bool) -> None:
        shown = [Verdict(id_, (await self.request(id_)).shown_digest, yes) for id_, yes in verdicts.items()]
        await self.hub.parts.approvals.decide(by, shown, "because")

    async def told(self) -> list[Received]:
        """Everything the receiver has got by now."""
        await self.hub.parts.notifying.look()
        await self.hub.parts.notifying.settled()
        return self.receiver.got

    async def said(self) -> list[tuple[str, str, int]]:
        """Type, state and number of requests of each message."""
        found = [each.document for each in await self.told()]
        return [(each["type"], each["data"]["state"], each["data"]["count"]) for each in found]


@pytest.fixture
async def scene(company: Company, tmp_path: Path) -> AsyncIterator[Scene]:
    async with hook() as receiver:
        company.notify = notify_file(tmp_path, one=f'url = "{receiver.url}"')
        async with opened(company) as hub:
            server = hub.parts.registry.current.servers["prod/presto"]
            assert server.release is not None
            yield Scene(hub, receiver, Channel(server="prod/presto", release=server.release.digest))


async def test_a_request_is_told_once_however_often_the_call_is_repeated(scene: Scene) -> None:
    [id_] = await scene.ask({"sql": "select 1"})
    await scene.ask({"sql": "select 1"}, call="c2")
    [got] = await scene.told()
    data = got.document["data"]
    assert (data["requests"], data["asks"], data["person"]) == ([id_], "ads-eng", "ana")
    assert (data["tool"], data["page"]) == ("run_query", f"{URL}/approvals/{id_}")


async def test_whom_it_asks_is_the_team_that_owns_the_server_now(scene: Scene) -> None:
    await scene.ask({"sql": "1"}, requirement=Requirement(by="owner"))
    await scene.ask({"sql": "2"}, requirement=Requirement(by="caller"))
    assert sorted(each.document["data"]["asks"] for each in await scene.told()) == ["caller", "platform"]


async def test_a_decision_on_a_list_is_told_by_what_was_decided(scene: Scene) -> None:
    ids = await scene.ask(*({"table": f"t{number}"} for number in range(8)), requirement=Requirement(by="owner"))
    await scene.decide(OLI, **{id_: number < 5 for number, id_ in enumerate(ids)})
    assert sorted(await scene.said()) == [
        ("approval.decided", "approved", 5),
        ("approval.decided", "rejected", 3),
        ("approval.requested", "requested", 8),
    ]
    decided = [each.document["data"] for each in scene.receiver.got if "decided_by" in each.document["data"]]
    assert {each["decided_by"] for each in decided} == {"oli"}


async def test_what_waits_too_long_is_announced_once_before_it_expires(scene: Scene) -> None:
    [id_] = await scene.ask({"sql": "select 1"})
    asked = (await scene.request(id_)).requested_at_ms
    announcer = scene.hub.parts.approvals._announcer
    for after_s in (2690, 2710, 2720, 3000):
        async with scene.hub.parts.database.write() as db:
            await keeping.remind(db, announcer, asked + after_s * 1000)
    assert sorted(kind for kind, _, _ in await scene.said()) == ["approval.expiring", "approval.requested"]


async def test_what_was_decided_is_not_announced_to_expire(scene: Scene) -> None:
    ids = await scene.ask({"sql": "1"}, requirement=Requirement(by="owner"))
    await scene.decide(OLI, **{ids[0]: True})
    async with scene.hub.parts.database.write() as db:
        await keeping.remind(db, scene.hub.parts.approvals._announcer, 2**50)
    assert "approval.expiring" not in [kind for kind, _, _ in await scene.said()]


async def test_that_nobody_knows_how_it_ended_is_told(scene: Scene) -> None:
    ids = await scene.ask({"sql": "1"}, requirement=Requirement(by="owner"))
    await scene.decide(OLI, **{ids[0]: True})
    await scene.ask({"sql": "1"}, requirement=Requirement(by="owner"))
    await scene.hub.parts.approvals.over(scene.channel, ["p1"])
    assert ("approval.unknown", "unknown", 1) in await scene.said()


async def test_a_confirmation_is_between_the_caller_and_their_client(scene: Scene) -> None:
    await scene.ask({"sql": "1"}, requirement=Requirement(by="caller"), kind="confirm")
    assert await scene.told() == []


async def test_what_could_not_be_decided_is_not_told(scene: Scene) -> None:
    ids = await scene.ask({"sql": "1"}, {"sql": "2"}, requirement=Requirement(by="owner"))
    await scene.decide(OLI, **{ids[0]: True})
    with pytest.raises(Exception, match=r"\w"):
        await scene.decide(OLI, **{ids[1]: True, ids[0]: False})
    assert [state for kind, state, _ in await scene.said() if kind == "approval.decided"] == ["approved"]
