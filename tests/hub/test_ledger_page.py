"""The ledger's pages: the search form, what it finds, and a call's life, as different people see them."""

from __future__ import annotations

import re
import time

import pytest

from tests.hub.company import Company, Hub, call, denial, edge_refusal, intent, presto

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

NOW = int(time.time() * 1000)


@pytest.fixture
async def filled(hub: Hub, company: Company) -> Hub:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    await hub.deliver(channel, *(record for n in range(60) for record in call(f"c{n:02}", NOW - n)))
    await hub.deliver(channel, denial("refused", NOW, reason="policy_denied"), intent("open", NOW - 100, sub="fay"))
    await hub.deliver_edge(edge_refusal("edge", NOW, tool="<script>alert(1)</script>"))
    return hub


async def page(hub: Hub, path: str = "/ledger", answered: int = 200, **query: str) -> str:
    response = await (hub.public.get(path, params=query) if query else hub.public.get(path))
    assert response.status_code == answered, response.text
    assert response.headers["cache-control"] == "no-store"
    return " ".join(response.text.split())


async def test_nobody_in_particular_sees_no_call(filled: Hub) -> None:
    text = await page(filled)
    assert "everybody reads their own calls, owners those on their servers, and security all of them" in text
    assert "<tbody>" not in text
    assert "Choose a person" in await page(filled, "/ledger/call", id="c00")


async def test_a_person_finds_their_own_calls_and_an_owner_those_on_their_servers(filled: Hub) -> None:
    own = await page(filled, **{"as": "fay"})
    assert "2 found, newest first: 1 refused, 1 without an outcome. <span>Fay’s own calls.</span>" in own
    assert "policy ads-revenue" not in own
    owners = await page(filled, **{"as": "pat"})
    assert "62 found, newest first: 1 refused, 1 without an outcome." in owners
    assert "and all calls on the one server of Pat’s team" in owners
    assert "policy ads-revenue does not permit it" in owners


async def test_a_call_that_waits_for_a_yes_is_held_and_not_denied(hub: Hub, company: Company) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    waits = dict.fromkeys(("code", "reason"), "approval_pending")
    await hub.deliver(channel, denial("waits", NOW, **waits, detail=""))
    text = await page(hub, **{"as": "fay"})
    assert '<span class="decision">held</span> by server<span class="why">approval pending</span>' in text
    assert 'class="decision denied"' not in text


async def test_older_calls_are_a_link_away_and_the_newest_again(filled: Hub) -> None:
    first = await page(filled, **{"as": "ana", "person": "ana"})
    older = re.search(r'<a href="([^"]+)" rel="next">Older</a>', first)
    assert older
    second = await page(filled, older[1].replace("&amp;", "&"))
    assert (first.count('<td data-label="Time">'), second.count('<td data-label="Time">')) == (50, 11)
    assert ">Newest</a>" in second
    assert 'value="ana"' in second


async def test_what_was_asked_stays_in_the_form_and_can_be_cleared(filled: Hub) -> None:
    text = await page(filled, **{"as": "ana", "status": "denied", "tool": '"><b>', "on": "chat"})
    assert '<option value="denied" selected>denied</option>' in text
    assert 'value="&#34;&gt;&lt;b&gt;"' in text
    assert '<option value="chat" selected>' in text
    assert ">Clear</a>" in text
    assert "No call fits." in text


async def test_a_field_that_makes_no_sense_is_marked_and_nothing_is_searched(filled: Hub) -> None:
    text = await page(filled, answered=422, **{"as": "ana", "since": "soon", "server": "presto"})
    assert "write it as 2026-11-24 or 2026-11-24T09:30, in UTC" in text
    assert "&#39;presto&#39; names no namespace" in text
    assert text.count('aria-invalid="true"') == 2
    assert "mend the fields that are marked" in text
    assert "<tbody>" not in text
    assert "cannot be read" in await page(filled, answered=422, **{"as": "ana", "cursor": "zz"})


async def test_somebody_without_calls_is_told_where_to_begin(filled: Hub) -> None:
    assert "Nothing was called yet." in await page(filled, **{"as": "gus"})


async def test_a_call_leads_to_its_whole_life(filled: Hub) -> None:
    listed = await page(filled, **{"as": "ana", "request_id": "request-c07"})
    link = re.search(r'href="(/ledger/call[^"]+)"', listed)
    assert link
    life = await page(filled, link[1].replace("&amp;", "&"))
    for words in (
        "Asked",
        "Allowed by the server",
        "granted, version abc",
        "Ended",
        "12.5 ms",
        "Delivered",
        "trace-c07",
    ):
        assert words in life
    assert "6 minutes, as its owner declares" in life
    assert ", with " in life
    assert " , with " not in life


async def test_a_call_without_an_outcome_is_explained(filled: Hub) -> None:
    life = await page(filled, "/ledger/call", **{"as": "fay", "id": "open"})
    assert "No outcome" in life
    assert "Nobody can say how it ended." in life


async def test_what_a_caller_wrote_is_text_and_never_markup(filled: Hub) -> None:
    for text in (
        await page(filled, **{"as": "ana"}),
        await page(filled, "/ledger/call", **{"as": "ana", "id": "edge"}),
    ):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


async def test_a_call_that_is_not_ones_own_and_none_at_all_are_answered_alike(filled: Hub) -> None:
    answers = {
        (await page(filled, "/ledger/call", 404, **{"as": "sam", "id": id_})).replace(id_, "")
        for id_ in ("c00", "none")
    }
    assert len(answers) == 1


async def test_a_call_leads_to_what_was_approved_for_it(hub: Hub, company: Company) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    await hub.deliver(channel, {**intent("waited", NOW), "approval": ["a1", "a2"]})
    life = await page(hub, "/ledger/call", **{"as": "ana", "id": "waited"})
    assert re.findall(r'href="/approvals/([^"?]+)', life) == ["a1", "a2"]
