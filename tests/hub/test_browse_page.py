"""The page of servers: searching, narrowing down, and what htmx asks for."""

from __future__ import annotations

import html
import re

import pytest

from pegboard_hub.registry.history import Actor
from tests.hub.company import Company, Hub, call, opened, plain, presto

pytestmark = pytest.mark.anyio

PART = {"HX-Request": "true", "HX-Request-Type": "partial"}


async def found(hub: Hub, person: str = "ana", **query: str) -> list[str]:
    """Names of the servers that the page lists."""
    page = (await hub.public.get("/servers", params={"as": person, **query})).text
    return re.findall(r'<h2 id="[^"]+"><a href="/servers/([^"?]+)', page)


async def test_it_lists_every_server_whether_or_not_it_is_open_to_who_looks(hub: Hub) -> None:
    assert await found(hub) == await found(hub, "gus") == ["dev/scratch", "prod/presto"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"q": "warehouse"}, ["prod/presto"]),
        ({"q": "PRESTO"}, ["prod/presto"]),
        ({"q": "get_revenue"}, ["prod/presto"]),
        ({"q": "nothing at all"}, []),
        ({"namespace": "dev"}, ["dev/scratch"]),
        ({"owner": "tools-team"}, ["dev/scratch"]),
        ({"sensitivity": "confidential"}, ["prod/presto"]),
        ({"lifecycle": "live"}, ["dev/scratch", "prod/presto"]),
        ({"lifecycle": "retired"}, []),
        ({"status": "unknown"}, ["dev/scratch", "prod/presto"]),
        ({"status": "live"}, []),
        ({"use": "chat"}, ["prod/presto"]),
        ({"use": "bot"}, []),
        ({"q": "presto", "use": "cli", "owner": "platform"}, ["prod/presto"]),
    ],
)
async def test_words_and_filters_narrow_it_down(hub: Hub, query: dict[str, str], names: list[str]) -> None:
    assert await found(hub, **query) == names


async def test_a_tool_is_found_by_those_for_whom_it_is_listed_and_by_nobody_else(hub: Hub) -> None:
    for person, names in (("ana", ["prod/presto"]), ("pat", ["prod/presto"]), ("fay", []), ("gus", [])):
        assert await found(hub, person, q="get_revenue") == names
    for person in ("fay", "gus", ""):
        page = await hub.public.get("/servers", params={"as": person, "q": "revenue"})
        assert "get_revenue" not in page.text


async def test_the_most_used_come_first_where_that_is_asked_for(hub: Hub, company: Company) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    await hub.deliver(channel, *call("a", 1_700_000_000_000))
    assert await found(hub, sort="usage") == ["prod/presto", "dev/scratch"]
    assert await found(hub, sort="name") == ["dev/scratch", "prod/presto"]


async def many(hub: Hub, count: int) -> None:
    record = {"description": "one of many", "owner": "ads-eng", "support_channel": "#ads"}
    async with hub.parts.registry.changing() as changing:
        for number in range(count):
            await changing.register(f"dev/many-{number:03}", record, Actor("ana"), "to have many")


@pytest.mark.parametrize("sort", ["", "usage"])
async def test_pages_follow_one_another_and_every_server_comes_once(hub: Hub, sort: str) -> None:
    await many(hub, 60)
    names: list[str] = []
    path = f"/servers?as=ana&namespace=dev&sort={sort}"
    while path:
        page = (await hub.public.get(path)).text
        names += re.findall(r'<h2 id="[^"]+"><a href="/servers/([^"?]+)', page)
        onward = re.search(r'<a href="([^"]+)" rel="next"', page)
        path = html.unescape(onward[1]) if onward else ""
    assert names == [f"dev/many-{number:03}" for number in range(60)] + ["dev/scratch"]


@pytest.mark.parametrize(
    "query", ["cursor=%3Cb%3E", "sort=usage&cursor=nothing", "sort=oldest", "use=moon", f"q={'x' * 300}"]
)
async def test_what_cannot_be_read_is_said_and_nothing_is_searched_for(hub: Hub, query: str) -> None:
    response = await hub.public.get(f"/servers?as=ana&{query}")
    assert response.status_code == 422
    assert "Nothing was searched for." in response.text
    assert "<b>" not in response.text.partition('id="results"')[2]


async def test_a_filter_that_the_page_does_not_know_is_named(hub: Hub) -> None:
    page = plain((await hub.public.get("/servers?as=ana&usable_from=bot")).text)
    assert "This page has no filter usable_from: its filters are q, owner" in page


async def test_drafts_are_found_by_owners_and_those_who_look_after_them(hub: Hub) -> None:
    await many(hub, 1)
    assert await found(hub, "ana", q="many") == ["dev/many-000"]
    assert await found(hub, "pat", q="many") == ["dev/many-000"]
    for person in ("fay", "gus", ""):
        assert await found(hub, person, q="many") == []
        page = plain((await hub.public.get("/servers", params={"as": person})).text)
        assert "2 servers found." in page
        assert "draft" not in page.partition("servers found")[2].partition("isolation")[0]


async def test_htmx_gets_the_list_alone_and_the_address_that_stands_for_it(hub: Hub) -> None:
    response = await hub.public.get("/servers", params={"as": "ana", "q": "presto", "owner": ""}, headers=PART)
    assert response.text.strip().startswith('<section id="results"')
    assert "<html" not in response.text
    assert "prod/presto" in response.text
    assert response.headers["hx-replace-url"] == "/servers?as=ana&surface=cli&q=presto"
    assert response.headers["vary"] == "HX-Request-Type"
    assert response.headers["cache-control"] == "no-store"


async def test_nothing_found_says_what_to_do(hub: Hub) -> None:
    page = plain((await hub.public.get("/servers", params={"as": "ana", "q": "zebra"})).text)
    assert "No server fits. Take a filter away, or search for fewer words." in page


async def test_an_empty_registry_says_how_a_server_gets_here(company: Company) -> None:
    company.grants.write_text("# none\n")
    async with opened(company) as hub:
        page = (await hub.public.get("/servers")).text
    assert "No server is registered." in page
