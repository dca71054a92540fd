"""The ledger: everything delivered is counted once, and everybody reads what is theirs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import select

from pegboard_hub.ledger.model import refusal_counts
from tests.hub.company import Company, Hub, denial, edge_refusal, intent, outcome

pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
HOUR = 3_600_000


@pytest.fixture
def channel(company: Company) -> str:
    return company.open_channel("prod/presto", "release-of-the-channel")


async def counts(hub: Hub) -> set[tuple[Any, ...]]:
    async with hub.parts.database.read() as connection:
        return {tuple(row) for row in await connection.execute(select(refusal_counts))}


async def test_a_call_is_told_from_intent_and_outcome(hub: Hub, channel: str) -> None:
    response = await hub.deliver(channel, intent("1", NOW), outcome("1", NOW + 12))
    assert (response.status_code, response.json()) == (200, {"accepted": 2})
    assert await hub.calls("ana") == [
        {
            "id": "1",
            "at": NOW,
            "server": "prod/presto",
            "release": "release-of-the-channel",
            "tool": "run_query",
            "person": "ana",
            "surface": "cli",
            "channel": None,
            "client_id": "pegboard-cli",
            "decision": "allowed",
            "layer": "server",
            "code": "",
            "reason": "",
            "detail": "",
            "policy": "granted",
            "policy_version": "abc",
            "status": "ok",
            "duration_ms": 12.5,
            "minutes_saved": 6.0,
            "request_id": "request-1",
            "trace_id": "trace-1",
        }
    ]


async def test_what_is_delivered_again_is_counted_once(hub: Hub, channel: str) -> None:
    batch = [intent("1", NOW), outcome("1", NOW), denial("2", NOW), denial("3", NOW, sub=None)]
    for _ in range(3):
        assert (await hub.deliver(channel, *batch, *batch)).json() == {"accepted": 8}
    assert sorted(call["id"] for call in await hub.calls("pat")) == ["1", "2"]
    assert (await hub.parts.ledger.figures())[0].calls == 1
    assert [row[-1] for row in await counts(hub)] == [1]


async def test_deliveries_at_the_same_time_are_counted_once(hub: Hub, channel: str) -> None:
    batch = [record for n in range(600) for record in (intent(str(n), NOW), outcome(str(n), NOW))]
    nameless = [denial(f"n{n}", NOW, sub=None) for n in range(50)]
    answers = await asyncio.gather(*(hub.deliver(channel, *batch, *nameless) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await hub.parts.ledger.figures())[0].calls == 600
    assert [row[-1] for row in await counts(hub)] == [50]


async def test_an_outcome_may_come_before_its_intent(hub: Hub, channel: str) -> None:
    await hub.deliver(channel, outcome("1", NOW))
    assert await hub.calls("ana") == []
    await hub.deliver(channel, intent("1", NOW))
    assert [call["status"] for call in await hub.calls("ana")] == ["ok"]


async def test_the_first_telling_of_a_call_stays(hub: Hub, channel: str) -> None:
    await hub.deliver(channel, intent("1", NOW), outcome("1", NOW, "tool_error"))
    await hub.deliver(channel, intent("1", NOW, sub="fay"), outcome("1", NOW, "ok"))
    assert [(call["person"], call["status"]) for call in await hub.calls("pat")] == [("ana", "tool_error")]


async def test_a_server_cannot_write_in_anothers_name(hub: Hub, company: Company, channel: str) -> None:
    other = company.open_channel("dev/scratch", "r2")
    await hub.deliver(channel, intent("1", NOW))
    await hub.deliver(other, outcome("1", NOW))
    await hub.deliver(other, intent("1", NOW))
    told = {(call["server"], call["status"]) for call in await hub.calls("ana")}
    assert told == {("prod/presto", "unknown"), ("dev/scratch", "ok")}


@pytest.mark.parametrize("token", ["wrong", ""])
async def test_an_unknown_channel_delivers_nothing(hub: Hub, channel: str, token: str) -> None:
    response = await hub.deliver(token, intent("1", NOW))
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthenticated")
    assert await hub.calls("ana") == []


async def test_a_channel_that_is_closed_stops_delivering(hub: Hub, company: Company, channel: str) -> None:
    assert (await hub.deliver(channel, intent("1", NOW))).status_code == 200
    company.home.channels.write_text("{}")
    assert (await hub.deliver(channel, intent("2", NOW))).status_code == 401


@pytest.mark.parametrize("text", [None, "{", '{"x": 1}'])
async def test_without_a_readable_channels_file_nobody_delivers(
    hub: Hub, company: Company, channel: str, text: str | None
) -> None:
    company.home.channels.unlink()
    if text is not None:
        company.home.channels.write_text(text)
    assert (await hub.deliver(channel, intent("1", NOW))).status_code == 401


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "intent", "id": "2"},
        {"kind": "rumour", "id": "2", "at_ms": NOW},
        outcome("2", NOW) | {"minutes_saved": -1},
        intent("", NOW),
        intent("x" * 129, NOW),
        denial("2", NOW, code="x" * 65),
    ],
)
async def test_a_malformed_delivery_is_refused_as_a_whole(hub: Hub, channel: str, bad: dict[str, Any]) -> None:
    response = await hub.deliver(channel, intent("1", NOW), bad)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
    assert await hub.calls("ana") == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"records": 1}', b'{"records": [], "more": 1}'])
async def test_a_delivery_of_another_shape_is_refused(hub: Hub, channel: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {channel}"}
    response = await hub.internal.post("/internal/v1/records", content=body, headers=headers)
    assert response.status_code in (400, 422)


async def test_a_figure_that_is_no_number_spoils_no_sum(hub: Hub, channel: str) -> None:
    body = b'{"records": [{"kind": "outcome", "id": "1", "at_ms": 1, "status": "ok", "duration_ms": NaN}]}'
    headers = {"Authorization": f"Bearer {channel}"}
    assert (await hub.internal.post("/internal/v1/records", content=body, headers=headers)).status_code == 422


async def test_a_call_without_an_outcome_is_running_only_while_its_server_lives(
    hub: Hub, company: Company, channel: str
) -> None:
    await hub.deliver(channel, intent("old", NOW - 11 * 60_000), intent("young", NOW))
    assert [call["status"] for call in await hub.calls("ana")] == ["unknown", "unknown"]
    company.report(at=time.time(), isolation={"mode": "user"}, processes=[{"name": "prod/presto", "state": "live"}])
    assert [call["status"] for call in await hub.calls("ana")] == ["running", "unknown"]


async def test_refusals_of_nobody_are_counts_and_never_names(hub: Hub, channel: str) -> None:
    hour = NOW - NOW % HOUR
    await hub.deliver(channel, denial("1", hour, sub=None, code="unauthenticated"))
    await hub.deliver(channel, denial("2", hour + 5, sub=None, code="unauthenticated"))
    await hub.deliver_edge(
        edge_refusal("a", hour, sub=None, code="unauthenticated"),
        edge_refusal("b", hour + HOUR, sub=None, code="unauthenticated"),
        edge_refusal("c", hour, sub=None, code="unauthenticated", server="what/ever-the-path-said"),
    )
    assert await counts(hub) == {
        ("server", "prod/presto", "unauthenticated", hour, 2),
        ("edge", "dev/scratch", "unauthenticated", hour, 1),
        ("edge", "dev/scratch", "unauthenticated", hour + HOUR, 1),
        ("edge", "", "unauthenticated", hour, 1),
    }
    assert await hub.calls("pat") == []


async def test_counting_stays_right_when_ids_are_forgotten(hub: Hub, channel: str) -> None:
    await hub.deliver(channel, denial("1", NOW, sub=None))
    await hub.parts.ledger.forget_counted()
    await hub.deliver(channel, denial("1", NOW, sub=None))
    assert [row[-1] for row in await counts(hub)] == [1]


async def test_a_refusal_at_the_edge_is_in_the_ledger_once(hub: Hub) -> None:
    for _ in range(2):
        assert (await hub.deliver_edge(edge_refusal("e1", NOW))).json() == {"accepted": 1}
    (call,) = await hub.calls("ana")
    told = {
        name: call[name] for name in ("server", "tool", "decision", "layer", "code", "reason", "status", "surface")
    }
    assert told == {
        "server": "dev/scratch",
        "tool": "echo",
        "decision": "denied",
        "layer": "edge",
        "code": "access_denied",
        "reason": "surface_not_granted",
        "status": "denied",
        "surface": "chat",
    }
    assert (call["request_id"], call["duration_ms"]) == ("e1", None)


async def test_only_the_supervisors_own_credential_delivers_for_the_edge(
    hub: Hub, company: Company, channel: str
) -> None:
    for token in ("wrong", channel, ""):
        assert (await hub.deliver_edge(edge_refusal("e1", NOW), token=token)).status_code == 401
    company.home.operator_token.unlink()
    assert (await hub.deliver_edge(edge_refusal("e1", NOW))).status_code == 401


async def test_the_internal_door_is_not_in_the_public_one(hub: Hub, channel: str) -> None:
    headers = {"Authorization": f"Bearer {channel}"}
    response = await hub.public.post("/internal/v1/records", json={"records": []}, headers=headers)
    assert response.status_code == 404
    assert (await hub.internal.get("/")).status_code == 404


async def test_everybody_reads_their_own_calls_and_owners_all_on_their_servers(
    hub: Hub, company: Company, channel: str
) -> None:
    scratch = company.open_channel("dev/scratch", "r2")
    await hub.deliver(channel, intent("a", NOW), intent("f", NOW + 1, sub="fay"))
    await hub.deliver(scratch, intent("s", NOW + 2, tool="echo"), intent("p", NOW + 3, sub="pat", tool="echo"))
    assert [call["id"] for call in await hub.calls("ana")] == ["s", "a"]
    assert [call["id"] for call in await hub.calls("fay")] == ["f"]
    assert [call["id"] for call in await hub.calls("pat")] == ["p", "f", "a"]
    assert [call["id"] for call in await hub.calls("pat", server="prod/presto", limit=1)] == ["f"]
    assert await hub.calls("gus") == []


async def test_a_caller_reads_what_the_answer_said_and_the_owner_reads_why(hub: Hub, channel: str) -> None:
    hidden = denial("1", NOW, reason="policy_denied")
    await hub.deliver(channel, hidden, denial("2", NOW - 1, code="access_denied", reason="group_not_granted"))
    names = ("reason", "detail", "policy", "policy_version")
    assert [[call[name] for name in names] for call in await hub.calls("fay")] == [
        ["tool_unavailable", "", "", ""],
        ["group_not_granted", "", "ads-revenue", "abc"],
    ]
    owner = (await hub.calls("pat"))[0]
    assert [owner[name] for name in names] == ["policy_denied", hidden["detail"], "ads-revenue", "abc"]


async def test_figures_count_allowed_calls_that_ended_well(hub: Hub, channel: str) -> None:
    await hub.deliver(
        channel,
        *(intent("1", NOW), outcome("1", NOW, minutes=30)),
        *(intent("2", NOW), outcome("2", NOW, minutes=45)),
        *(intent("3", NOW, sub="fay"), outcome("3", NOW, minutes=15)),
        *(intent("4", NOW, sub="sam"), outcome("4", NOW, "tool_error", minutes=1000)),
        *(intent("5", NOW, sub="pat"), denial("6", NOW)),
    )
    await hub.deliver_edge(edge_refusal("e1", NOW))
    total, each = await hub.parts.ledger.figures()
    assert (total.calls, total.callers, total.hours_saved) == (3, 2, 1.5)
    assert set(each) == {"prod/presto"}
