"""Searching the ledger: what is asked for is found, page by page, and by those who may read it."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest

from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.ledger import search
from tests.hub.company import API, URL, Company, Hub, call, denial, edge_refusal, intent, outcome, presto, scratch
from tests.hub.reviewing import PRESTO, changed, move, release, reviewed_company

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

NOW = int(time.time() * 1000)
HOUR = 3_600_000
RECENTLY = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))


@pytest.fixture
def channel(company: Company) -> str:
    return company.open_channel("prod/presto", company.deploy("prod/presto", presto()))


@pytest.fixture
def other(company: Company) -> str:
    return company.open_channel("dev/scratch", company.deploy("dev/scratch", scratch()))


async def ask_as(company: Company, hub: Hub, sub: str, *groups: str, **query: Any) -> httpx2.Response:
    """Ask as somebody whom the demo directory does not have."""
    now = int(time.time())
    claims = {"iss": URL, "sub": sub, "sub_type": "person", "groups": groups, "client_id": "c", "surface": "cli"}
    token = open_keys(company.home).tokens.sign(
        {**claims, "scope": "api", "aud": API, "iat": now, "exp": now + 60, "jti": "x"}, TOKEN_TYPE
    )
    path = query.pop("path", "calls")
    return await hub.public.get(f"/api/v1/{path}", params=query, headers={"Authorization": f"Bearer {token}"})


async def fill(hub: Hub, channel: str, other: str) -> None:
    """One call of every kind."""
    await hub.deliver(
        channel,
        *call("ok", NOW - 1),
        *call("err", NOW - 2, status="tool_error"),
        *call("fay", NOW - 3, sub="fay", tool="get_revenue_metrics"),
        *call("old", NOW - 30 * 24 * HOUR),
        intent("open", NOW - 4),
        denial("no", NOW - 5, "ana"),
    )
    await hub.deliver(other, *call("echo", NOW - 6, tool="echo"))
    await hub.deliver_edge(edge_refusal("edge", NOW - 7, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))


FOUND_BY: list[tuple[dict[str, str], str]] = [
    ({}, "ok err fay open no echo edge old"),
    ({"person": "fay"}, "fay"),
    ({"person": "nobody"}, ""),
    ({"server": "dev/scratch"}, "echo edge"),
    ({"tool": "echo"}, "echo edge"),
    ({"tool": "echo", "server": "prod/presto"}, ""),
    ({"decision": "denied"}, "no edge"),
    ({"decision": "allowed", "person": "ana"}, "ok err open echo old"),
    ({"layer": "edge"}, "edge"),
    ({"layer": "server", "decision": "denied"}, "no"),
    ({"status": "tool_error"}, "err"),
    ({"status": "denied"}, "no edge"),
    ({"status": "unknown"}, "open"),
    ({"status": "running"}, ""),
    ({"code": "access_denied"}, "edge"),
    ({"surface": "chat"}, "edge"),
    ({"act": "pegboard-chat"}, "edge"),
    ({"act": "chat"}, ""),
    ({"since": "2000-01-01"}, "ok err fay open no echo edge old"),
    ({"until": "2000-01-01"}, ""),
    ({"since": "recently"}, "ok err fay open no echo edge"),
    ({"until": "recently"}, "old"),
    ({"request_id": "request-err"}, "err"),
    ({"trace_id": "a" * 32}, "edge"),
    ({"status": "ok", "person": "ana", "server": "prod/presto", "surface": "cli"}, "ok old"),
]


@pytest.mark.parametrize("window", [5_000, 2])
async def test_a_search_finds_what_it_asks_for_and_nothing_else(
    hub: Hub, company: Company, channel: str, other: str, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(search, "WINDOW", window)
    await fill(hub, channel, other)
    for asked, found in FOUND_BY:
        query = {name: RECENTLY if value == "recently" else value for name, value in asked.items()}
        for groups in (["security"], ["platform", "tools-team"]):
            assert await all_pages(company, hub, groups, query) == found.split(), (query, groups)


async def all_pages(company: Company, hub: Hub, groups: list[str], query: dict[str, str]) -> list[str]:
    """Ids of everything that is found, page by page."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await ask_as(company, hub, "sue", *groups, **query, **cursor, limit=3)).json()
        ids += [entry["id"] for entry in answer["calls"]]
        if not answer["next"]:
            return ids
        cursor = {"cursor": answer["next"]}


async def test_a_search_says_how_much_it_finds(hub: Hub, company: Company, channel: str, other: str) -> None:
    await fill(hub, channel, other)
    found = (await ask_as(company, hub, "sue", "security", limit=1)).json()["found"]
    assert found == {"count": 8, "denied": 2, "unfinished": 1, "back_to_ms": None}
    mine = (await hub.api("fay", "calls")).json()["found"]
    assert mine == {"count": 1, "denied": 0, "unfinished": 0, "back_to_ms": None}


async def test_a_search_that_stops_early_says_how_far_it_looked(
    hub: Hub, company: Company, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "WINDOW", 5)
    await hub.deliver(channel, *(intent(f"{n}", NOW - n) for n in range(20)), *call("rare", NOW - 30, tool="rare"))
    answer = (await ask_as(company, hub, "sue", "security", surface="cli", status="ok")).json()
    assert [entry["id"] for entry in answer["calls"]] == ["rare"]
    answer = (await ask_as(company, hub, "sue", "security", surface="cli", decision="allowed", limit=2)).json()
    assert answer["found"] == {"count": 5, "denied": 0, "unfinished": 5, "back_to_ms": NOW - 4}


@pytest.mark.parametrize("one_by_one", [8, 0], ids=["server by server", "through everything"])
async def test_paging_shows_an_owner_every_call_once_their_own_too_while_calls_arrive(
    hub: Hub, channel: str, other: str, one_by_one: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_BRANCHES", one_by_one)
    first = [f"{n:02}" for n in range(25)]
    made = (call(id_, NOW - n // 3, "pat" if n % 5 == 0 else "ana") for n, id_ in enumerate(first))
    await hub.deliver(channel, *(record for each in made for record in each))
    assert (await hub.api("pat", "calls")).json()["found"]["count"] == 25
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for page in range(100):
        answer = (await hub.api("pat", "calls", limit=4, **cursor)).json()
        seen += [entry["id"] for entry in answer["calls"]]
        await hub.deliver(other, *call(f"new-{page}", NOW + 1000 + page, tool="echo"))
        if not answer["next"]:
            break
        cursor = {"cursor": answer["next"]}
    assert sorted(seen) == first
    assert len(await hub.calls("ana", limit=1000)) == 20 + page + 1


@pytest.mark.parametrize(
    "cursor", ["x", "", "e30", "WzEsMl0", "WyJhIiwiYiIsImMiLCJkIl0", "WzEsImIiLCJjIiwiZCIsImUiXQ", "é"]
)
async def test_a_cursor_that_no_page_gave_is_refused(hub: Hub, cursor: str) -> None:
    response = await hub.api("ana", "calls", cursor=cursor)
    assert (response.status_code, cursor) in ((422, cursor), (200, ""))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"server": "presto"}, "server"),
        ({"status": "fine"}, "status"),
        ({"decision": "maybe"}, "decision"),
        ({"layer": "hub"}, "layer"),
        ({"surface": "phone"}, "surface"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"since": "9999999-01-01"}, "since"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"person": ""}, "person"),
        ({"tool": "x" * 256}, "tool"),
        ({"persn": "ana"}, "persn"),
    ],
    ids=str,
)
async def test_a_search_that_makes_no_sense_names_the_field(asked: Hub, query: dict[str, Any], field: str) -> None:
    response = await asked.api("ana", "calls", **query)
    assert response.status_code == 422
    assert field in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("sub", "groups", "found"),
    [
        ("ana", ["ads-eng"], "ok err open no echo edge old"),
        ("fay", [], "fay"),
        ("gus", ["platform"], "ok err fay open no old"),
        ("gus", ["tools-team"], "echo edge"),
        ("gus", ["security"], "ok err fay open no echo edge old"),
        ("gus", [], ""),
    ],
)
@pytest.mark.parametrize(
    "query", [{}, {"request_id": "request-fay"}, {"person": "fay"}, {"tool": "run_query"}], ids=str
)
async def test_nobody_finds_a_call_that_is_not_theirs_to_read(
    hub: Hub,
    company: Company,
    channel: str,
    other: str,
    sub: str,
    groups: list[str],
    found: str,
    query: dict[str, str],
) -> None:
    await fill(hub, channel, other)
    everything = (await ask_as(company, hub, "sue", "security", **query)).json()["calls"]
    answer = (await ask_as(company, hub, sub, *groups, **query)).json()
    ids = [entry["id"] for entry in answer["calls"]]
    assert ids == [entry["id"] for entry in everything if entry["id"] in found.split()]
    assert answer["found"]["count"] == len(ids)


async def test_a_service_does_not_read_the_calls_of_a_person_of_its_name(
    hub: Hub, company: Company, channel: str
) -> None:
    await hub.deliver(channel, *call("persons", NOW))
    service = intent("services", NOW) | {
        "who": {"sub": "ana", "sub_type": "service", "surface": "service", "client_id": "x"}
    }
    await hub.deliver(channel, service)
    assert [entry["id"] for entry in await hub.calls("ana")] == ["persons"]


async def test_owners_read_the_calls_of_their_server_while_nobody_may_call_it() -> None:
    async with reviewed_company() as (hub, company):
        channel = company.open_channel(PRESTO, company.deploy(PRESTO, presto()))
        await hub.deliver(channel, *call("anas", NOW))

        async def read(person: str) -> list[str]:
            return [entry["id"] for entry in await hub.calls(person, server=PRESTO)]

        await release(hub, company, changed())
        assert await read("pat") == ["anas"]
        assert await read("sam") == []
        await move(hub, "pat", PRESTO, "retire")
        assert await read("pat") == ["anas"]
        assert await read("sam") == []


async def test_a_call_is_shown_with_its_whole_life(hub: Hub, channel: str) -> None:
    ended = outcome("1", NOW + 12) | {
        "steps_ms": {"admit": 0.2, "run": 12},
        "result_bytes": 77,
        "result_digest": "beef",
    }
    await hub.deliver(channel, intent("1", NOW) | {"protocol": "2026-07-28"})
    before = (await hub.api("ana", "calls/1")).json()
    assert (before["status"], before["ended_at"]) == ("unknown", None)
    assert before["unfinished"].startswith("Nobody can say how it ended.")
    await hub.deliver(channel, ended)
    life = (await hub.api("ana", "calls/1")).json()
    told = ("status", "steps_ms", "result_bytes", "result_digest", "ended_at", "protocol", "request_id", "unfinished")
    assert [life[name] for name in told] == [
        "ok",
        {"admit": 0.2, "run": 12},
        77,
        "beef",
        NOW + 12,
        "2026-07-28",
        "request-1",
        "",
    ]
    assert time.time() * 1000 - 60_000 < life["received_at"] <= life["outcome_received_at"] <= time.time() * 1000


async def test_a_call_of_somebody_else_and_no_call_are_answered_alike(hub: Hub, channel: str) -> None:
    await hub.deliver(channel, *call("1", NOW))
    answers = [await hub.api("fay", f"calls/{id_}") for id_ in ("1", "2")]
    assert {answer.status_code for answer in answers} == {404}
    first, second = (answer.json()["error"] for answer in answers)
    assert first["message"].replace(" 1 ", " 2 ") == second["message"]


async def test_the_life_of_a_refused_call_tells_no_caller_whether_the_tool_exists(hub: Hub, channel: str) -> None:
    hidden = denial("h", NOW, reason="policy_denied", steps_ms={"authorize": 0.9})
    absent = denial("a", NOW, reason="tool_unavailable", detail="unknown tool", policy="", policy_version="")
    await hub.deliver(channel, hidden, absent | {"tool": "get_revenue_metrics", "steps_ms": {"authorize": 0.1}})
    hub_answers = [(await hub.api("fay", f"calls/{id_}")).json() for id_ in "ha"]
    for answer in hub_answers:
        for name in ("id", "request_id", "trace_id", "received_at"):
            answer.pop(name)
    assert hub_answers[0] == hub_answers[1]
    assert (await hub.api("pat", "calls/h")).json()["steps_ms"] == {"authorize": 0.9}


async def test_two_servers_with_one_id_are_told_apart_by_name(hub: Hub, channel: str, other: str) -> None:
    await hub.deliver(channel, *call("1", NOW))
    await hub.deliver(other, *call("1", NOW, tool="echo"))
    answer = await hub.api("ana", "calls/1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ambiguous_call")
    assert (await hub.api("ana", "calls/1", server="dev/scratch")).json()["tool"] == "echo"


async def test_a_call_of_a_process_that_was_started_since_is_not_running(
    hub: Hub, company: Company, channel: str
) -> None:
    now = int(time.time() * 1000)
    await hub.deliver(channel, intent("before", now - 10_000), intent("after", now))
    since = (now - 5_000) / 1000
    company.report(
        at=time.time(),
        isolation={"mode": "user"},
        processes=[{"name": "prod/presto", "state": "live", "since": since}],
    )
    assert {entry["id"]: entry["status"] for entry in await hub.calls("ana")} == {
        "before": "unknown",
        "after": "running",
    }
    for status in ("unknown", "running"):
        found = [entry["status"] for entry in await hub.calls("ana", status=status)]
        assert found == [status]
