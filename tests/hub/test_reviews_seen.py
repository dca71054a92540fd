"""What a review shows to who decides, what earlier approvals left out, and what owners learn of what ended."""

from __future__ import annotations

import pytest

from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.reviews.model import Kind
from tests.hub.company import URL, Company, Hub
from tests.hub.reviewing import (
    PRESTO,
    ask,
    changed,
    decide,
    decide_all,
    open_ones,
    page_of,
    register,
    release,
    server,
    signed_in,
    words,
)

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed]


async def test_what_an_approval_left_out_is_unticked_in_the_review_of_the_next_release(
    hub: Hub, company: Company
) -> None:
    held = server(hub).granted
    await ask(hub, "pat", PRESTO, held._replace(groups=(*held.groups, "search-eng")))
    found = await open_ones(hub)
    await decide(hub, "sol", found[Kind.SECURITY], without=["groups:ads-eng", "groups:search-eng"])
    done = words(await decide(hub, "lea", found[Kind.PRIVACY]))
    assert "Who lost what by it" in done
    # The owner is told, and what ended is not called something that it never had.
    pat = await signed_in(hub, "pat")
    assert f"The last approval of {PRESTO} ended ads-eng" in words(await pat.get(f"{URL}/"))
    access = words(await pat.get(f"{URL}/servers/{PRESTO}/access"))
    assert "ads-eng ended with its last approval" in access
    assert "search-eng asked for, not granted" in access
    await release(hub, company, changed(sensitivity="restricted"))
    sol = await signed_in(hub, "sol")
    page = await sol.get(await page_of(hub, PRESTO, Kind.SECURITY))
    assert "access left out before ads-eng : left out by Security on" in words(page)
    assert "Data restricted" in words(page)
    for group in ("ads-eng", "search-eng"):
        assert f'name="groups:{group}">' in page.text
    assert 'name="groups:platform" checked' in page.text
    # What its owners ask for anew is ticked like anything else that is asked for.
    now = server(hub)
    await ask(hub, "pat", PRESTO, now.granted._replace(groups=(*now.granted.groups, "ads-eng")))
    page = await sol.get(await page_of(hub, PRESTO, Kind.SECURITY))
    assert 'name="groups:ads-eng" checked' in page.text


async def test_who_decides_sees_all_of_the_release_and_ticks_nothing_of_code_that_there_is_not(
    hub: Hub, company: Company
) -> None:
    await release(hub, company, changed(sensitivity="public"))
    lea = await signed_in(hub, "lea")
    page = words(await lea.get(await page_of(hub, PRESTO, Kind.PRIVACY)))
    whole = page.partition("Show all of it")[2]
    for told in ("tool get_revenue_metrics", "policy ads-revenue", "ads-eng"):
        assert told in whole
    sam = await signed_in(hub, "sam")
    assert "get_revenue_metrics" not in (await sam.get(await page_of(hub, PRESTO, Kind.PRIVACY))).text
    await register(hub)
    await ask(hub, "sam", "prod/wiki", Access(("search-eng",), ("cli",)))
    sol = await signed_in(hub, "sol")
    draft = await sol.get(await page_of(hub, "prod/wiki", Kind.SECURITY))
    assert "item:" not in draft.text
    assert "access: groups new" in words(draft)
    await decide_all(hub, "prod/wiki")
    assert server(hub, "prod/wiki").lifecycle is Lifecycle.APPROVED


async def test_who_retires_a_server_sees_before_who_loses_what(hub: Hub) -> None:
    page = words(await (await signed_in(hub, "pat")).get(f"{URL}/servers/{PRESTO}/access"))
    preview = page.partition("Who would lose what if it were retired")[2]
    assert "run_query" in preview.partition("What is to become of it")[0]
