"""The ledger: everything delivered is counted once, and everybody reads what is theirs."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from pegboard.core.names import ServerName
from pegboard.core.record import Receipt
from pegboard_hub.ledger.model import refusal_counts, rejected_records, usage_days
from pegboard_hub.ledger.service import Ledger
from tests.hub.company import Company, Hub, call, denial, edge_refusal, intent, outcome, presto, scratch, who

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

NOW = int(time.time() * 1000)
HOUR = 3_600_000


@pytest.fixture
def release(company: Company) -> str:
    return company.deploy("prod/presto", presto())


@pytest.fixture
def channel(company: Company, release: str) -> str:
    return company.open_channel("prod/presto", release)


async def counts(hub: Hub) -> set[tuple[Any, ...]]:
    async with hub.parts.database.read() as connection:
        return {tuple(row) for row in await connection.execute(select(refusal_counts))}


async def rejected(hub: Hub) -> list[Any]:
    """What is kept of records that could not be read, in order of their problem."""
    async with hub.parts.database.read() as connection:
        return list(await connection.execute(select(rejected_records).order_by(rejected_records.c.problem)))


async def hours(hub: Hub) -> float:
    return (await hub.parts.ledger.figures())[0].hours_saved


async def test_a_call_is_told_from_intent_and_outcome(hub: Hub, channel: str, release: str) -> None:
    response = await hub.deliver(channel, intent("1", NOW), outcome("1", NOW + 12))
    assert (response.status_code, response.json()) == (200, {"accepted": 2, "rejected": []})
    assert await hub.calls("ana") == [
        {
            "id": "1",
            "at": NOW,
            "server": "prod/presto",
            "release": release,
            "tool": "run_query",
            "person": "ana",
            "surface": "cli",
            "channel": None,
            "client_id": "pegboard-cli",
            "act": None,
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
            "approval": [],
        }
    ]


async def test_a_call_names_the_approvals_that_were_claimed_for_it_or_that_it_waits_for(
    hub: Hub, channel: str
) -> None:
    ran, waits = {**intent("1", NOW), "approval": ["a1", "a2"]}, {**denial("2", NOW, "ana"), "approval": ["a3"]}
    await hub.deliver(channel, ran, waits, denial("3", NOW, "ana"))
    found = {call["id"]: call["approval"] for call in await hub.calls("pat")}
    assert found == {"1": ["a1", "a2"], "2": ["a3"], "3": []}


async def test_a_record_with_an_approval_that_is_no_id_is_rejected(hub: Hub, channel: str) -> None:
    answer = (await hub.deliver(channel, {**intent("1", NOW), "approval": ["../servers"]})).json()
    assert (answer["accepted"], len(answer["rejected"])) == (0, 1)


async def test_what_is_delivered_again_is_counted_once(hub: Hub, channel: str) -> None:
    batch = [intent("1", NOW), outcome("1", NOW), denial("2", NOW), denial("3", NOW, sub=None)]
    for _ in range(3):
        assert (await hub.deliver(channel, *batch, *batch)).json()["accepted"] == 8
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


@pytest.mark.parametrize("deliveries", [1, 2])
async def test_the_first_telling_of_a_call_stays(hub: Hub, channel: str, deliveries: int) -> None:
    first = [intent("1", NOW), outcome("1", NOW, "tool_error")]
    second = [intent("1", NOW, sub="fay"), outcome("1", NOW, "ok")]
    for records in [first + second] if deliveries == 1 else [first, second]:
        await hub.deliver(channel, *records)
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
    ("bad", "named", "problem"),
    [
        ({"kind": "intent", "id": "2"}, ("2", "intent"), "intent.at_ms: Field required"),
        ({"kind": "rumour", "id": "2", "at_ms": NOW}, ("2", "rumour"), "record: Input tag 'rumour'"),
        (intent("2", NOW) | {"who": None}, ("2", "intent"), "intent.who: "),
        (intent("", NOW), ("", "intent"), "intent.id: String should have at least 1"),
        (intent("x" * 129, NOW), ("x" * 128, "intent"), "intent.id: String should have at most 128"),
        (intent("2", NOW, tool="x" * 70_000), ("2", "intent"), "intent.tool: String should have at most"),
        (intent("2", 10**15), ("2", "intent"), "intent.at_ms: Input should be less than"),
        (intent("2", NOW) | {"arguments_bytes": 2**63}, ("2", "intent"), "intent.arguments_bytes: "),
        (outcome("2", NOW) | {"duration_ms": -1}, ("2", "outcome"), "outcome.duration_ms: "),
        (outcome("2", NOW) | {"steps_ms": {"run": -1}}, ("2", "outcome"), "outcome.steps_ms.run: "),
        (outcome("2", NOW) | {"steps_ms": {str(n): 1 for n in range(65)}}, ("2", "outcome"), "outcome.steps_ms: "),
        (denial("2", NOW, code="x" * 65), ("2", "denial"), "denial.code: String should have at most 64"),
        (outcome("2\n\x00", NOW) | {"é\n": 1}, ("2\\n\\x00", "outcome"), "outcome.\\xe9\\n: Extra inputs"),
        ({"kind": ["intent"], "id": 2}, ("", ""), "record: "),
        ("a word", ("", ""), "record: "),
        (None, ("", ""), "record: "),
        ([[]], ("", ""), "record: "),
    ],
)
async def test_a_malformed_record_is_kept_apart_and_holds_up_no_other(
    hub: Hub, channel: str, bad: Any, named: tuple[str, str], problem: str
) -> None:
    response = await hub.deliver(channel, intent("before", NOW), bad, intent("after", NOW - 1))
    assert response.status_code == 200
    receipt = Receipt.model_validate(response.json())
    (told,) = receipt.rejected
    assert (receipt.accepted, told.id, told.kind) == (2, *named)
    assert told.problem.startswith(problem)
    assert [call["id"] for call in await hub.calls("ana")] == ["before", "after"]
    (kept,) = await rejected(hub)
    assert (kept.server, kept.problem) == ("prod/presto", told.problem)
    assert kept.text == json.dumps(bad)[:4096]


async def test_a_call_of_a_time_to_come_counts_as_of_now(hub: Hub, channel: str) -> None:
    later = NOW + 1000 * 365 * 24 * HOUR
    assert (await hub.deliver(channel, *call("later", later), denial("no", later, "ana"))).json()["accepted"] == 3
    told = await hub.calls("ana")
    assert {call["id"] for call in told} == {"later", "no"}
    assert max(call["at"] for call in told) <= time.time() * 1000
    async with hub.parts.database.read() as connection:
        assert await connection.scalar(select(func.max(usage_days.c.day_ms))) <= time.time() * 1000


@pytest.mark.parametrize("text", [rb'"\ud800"', b"NaN", b"1e999", b"-1e999"])
async def test_what_json_can_say_and_no_column_can_hold_holds_up_no_other(
    hub: Hub, channel: str, text: bytes
) -> None:
    field = b"error_type" if text.startswith(b'"') else b"duration_ms"
    bad = b'{"kind": "outcome", "id": "1", "at_ms": 1, "status": "ok", "duration_ms": 1, "%s": %s}' % (field, text)
    good = json.dumps(intent("1", NOW)).encode()
    headers = {"Authorization": f"Bearer {channel}"}
    body = b'{"records": [%s, %s]}' % (bad, good)
    response = await hub.internal.post("/internal/v1/records", content=body, headers=headers)
    assert (response.status_code, response.json()["accepted"]) == (200, 1)
    assert [call["id"] for call in await hub.calls("ana")] == ["1"]


async def test_a_malformed_record_is_kept_and_logged_once(
    hub: Hub, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = outcome("the-id", NOW) | {"status": "splendid"}
    for _ in range(3):
        assert len((await hub.deliver(channel, bad, bad)).json()["rejected"]) == 2
    assert len(await rejected(hub)) == 1
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(vars(line)["id"], vars(line)["server"]) for line in logged] == [("the-id", "prod/presto")]


async def test_a_flood_of_malformed_records_leaves_the_newest_and_few_words(
    hub: Hub, company: Company, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = company.open_channel("dev/scratch", "r")
    await hub.deliver(other, {"kind": "old"})
    await hub.deliver(channel, *({"kind": "old", "n": n} for n in range(900)))
    answer = await hub.deliver(channel, *({"kind": "new", "n": n} for n in range(990)), intent("1", NOW))
    assert (answer.json()["accepted"], len(answer.json()["rejected"])) == (1, 20)
    async with hub.parts.database.read() as connection:
        key = (rejected_records.c.server, func.substr(rejected_records.c.text, 11, 3))
        rows = await connection.execute(select(*key, func.count()).group_by(*key))
        assert {tuple(row) for row in rows} == {
            ("prod/presto", "new", 990),
            ("prod/presto", "old", 10),
            ("dev/scratch", "old", 1),
        }
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1 + 21 + 21
    assert (await hub.parts.ledger.problems())[1].startswith("prod/presto: 1,000 records or more could not be read")


async def test_malformed_records_stop_being_a_problem_after_a_week(hub: Hub, channel: str) -> None:
    await hub.deliver(channel, {"kind": "rumour"})
    assert len(await hub.parts.ledger.problems()) == 1
    later = Ledger(hub.parts.database, lambda _: True, clock=lambda: time.time() + 7 * 24 * 3600 + 60)
    assert await later.problems() == ()
    assert len(await rejected(hub)) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"records": 1}', b'{"records": [], "more": 1}'])
async def test_a_delivery_of_another_shape_is_refused(hub: Hub, channel: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {channel}"}
    response = await hub.internal.post("/internal/v1/records", content=body, headers=headers)
    assert response.status_code == (400 if body == b"{" else 422)


async def test_a_call_without_an_outcome_is_running_only_while_its_server_lives(
    hub: Hub, company: Company, channel: str
) -> None:
    now = int(time.time() * 1000)
    await hub.deliver(channel, intent("old", now - 11 * 60_000), intent("young", now))
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
    await hub.parts.ledger.tidy()
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


async def test_figures_count_allowed_calls_that_ended_well(hub: Hub, company: Company, channel: str) -> None:
    other = company.open_channel("dev/scratch", company.deploy("dev/scratch", scratch()))
    await hub.deliver(
        channel,
        *(record for n in range(9) for record in call(f"a{n}", NOW)),
        *call("f", NOW, sub="fay"),
        *call("e", NOW, sub="sam", status="tool_error"),
        *(intent("5", NOW, sub="pat"), denial("6", NOW)),
    )
    await hub.deliver(other, *call("s", NOW, tool="echo"))
    await hub.deliver_edge(edge_refusal("e1", NOW))
    total, each = await hub.parts.ledger.figures()
    assert (total.calls, total.callers, total.hours_saved) == (11, 2, 1)
    assert {name: (told.calls, told.callers, told.hours_saved) for name, told in each.items()} == {
        "prod/presto": (10, 2, 1),
        "dev/scratch": (1, 1, 0),
    }


async def test_minutes_are_those_of_the_release_that_ran(hub: Hub, company: Company, channel: str) -> None:
    await hub.deliver(channel, *call("before", NOW))
    raised = presto()
    raised["tools"][0]["minutes_saved"] = 54
    promoted = company.open_channel("prod/presto", company.deploy("prod/presto", raised))
    await hub.parts.registry.refresh()
    assert await hours(hub) == 0.1
    await hub.deliver(promoted, *call("after", NOW - 1))
    assert await hours(hub) == 1
    assert [call["minutes_saved"] for call in await hub.calls("ana")] == [6, 54]


@pytest.mark.parametrize("status", ["tool_error", "crashed", "cancelled", "input_required"])
async def test_a_call_that_did_not_end_well_saves_nothing(hub: Hub, channel: str, status: str) -> None:
    await hub.deliver(channel, *call("1", NOW, status=status))
    assert await hours(hub) == 0
    assert [(call["status"], call["minutes_saved"]) for call in await hub.calls("ana")] == [(status, 0)]


async def test_a_server_cannot_claim_minutes(hub: Hub, channel: str) -> None:
    claimed = outcome("1", NOW) | {"minutes_saved": 1e9}
    answer = (await hub.deliver(channel, intent("1", NOW), claimed)).json()
    assert [told["problem"] for told in answer["rejected"]] == [
        "outcome.minutes_saved: Extra inputs are not permitted"
    ]
    assert await hours(hub) == 0
    assert [(call["status"], call["minutes_saved"]) for call in await hub.calls("ana")] == [("unknown", 0)]


@pytest.mark.parametrize("tool", ["run_query ", "RUN_QUERY", "echo", "", "no_such_tool"])
async def test_a_tool_that_the_release_does_not_declare_saves_nothing(hub: Hub, channel: str, tool: str) -> None:
    await hub.deliver(channel, *call("1", NOW, tool=tool))
    assert await hours(hub) == 0
    assert [call["minutes_saved"] for call in await hub.calls("ana")] == [0]


async def test_a_server_cannot_claim_the_minutes_of_another_release_or_server(
    hub: Hub, company: Company, channel: str
) -> None:
    generous = presto()
    generous["tools"][0]["minutes_saved"] = 1000
    better = company.deploy("prod/presto", generous)
    await hub.parts.registry.refresh()
    await hub.deliver(channel, intent("1", NOW) | {"release": better}, outcome("1", NOW))
    assert await hours(hub) == 0.1
    scratch_of_presto = company.open_channel("dev/scratch", better)
    await hub.deliver(scratch_of_presto, *call("2", NOW))
    assert await hours(hub) == 0.1


async def test_an_author_cannot_declare_minutes_that_spoil_every_sum(hub: Hub, company: Company) -> None:
    path = company.home.declaration(ServerName("prod", "presto"))
    declared = path.read_text().replace('"minutes_saved":6.0', '"minutes_saved":1e999')
    assert "1e999" in declared
    company.deploy("prod/presto", declared)
    await hub.parts.registry.refresh()
    assert "minutes_saved" in " ".join(hub.parts.registry.current.problems)
    found = hub.parts.registry.current.servers["prod/presto"].release
    assert found is not None
    assert found.tools[0].minutes_saved == 6


async def test_a_record_with_a_name_longer_than_an_index_takes_holds_up_no_delivery(hub: Hub, channel: str) -> None:
    long = secrets.token_hex(30_000)
    record = {**denial("1", NOW, "ana"), "tool": long, "request_id": long, "trace_id": long}
    someone = {**intent("2", NOW), "who": {**who(), "sub": long}}
    answer = await hub.deliver(channel, record, someone, outcome("2", NOW))
    assert answer.json() == {"accepted": 3, "rejected": []}
    [found] = await hub.calls("ana")
    assert found["tool"] == long[:512]


async def test_no_server_fills_the_disk_with_records_and_no_other_is_held_up_by_it(
    hub: Hub, company: Company, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.ledger.pace.AN_HOUR", 2_000)
    record = denial("one", int(time.time() * 1000))
    assert (await hub.deliver(channel, record)).status_code == 200
    refused = await hub.deliver(channel, *[denial(f"more-{n}", int(time.time() * 1000)) for n in range(20)])
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_much")
    assert "Keep them, and deliver them later." in refused.json()["error"]["what_to_do"]
    other = company.open_channel("dev/scratch", "r" * 64)
    assert (await hub.deliver(other, record)).status_code == 200
