"""The page that asks before a client connects: what it says, and what comes of each answer."""

from __future__ import annotations

import re

import httpx2
import pytest

from tests.hub.company import PRESTO, URL, Hub
from tests.oauth import Browser, StockClient, claims_of, onward_of, query_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

CURSOR = "cursor://anysphere.cursor-retrieval/oauth/callback"


@pytest.fixture
async def browser(hub: Hub) -> Browser:
    found = Browser(URL, hub.public)
    await found.sign_in("ana")
    return found


async def asked(hub: Hub, browser: Browser, server: str = "prod/presto", **client: str) -> tuple[str, StockClient]:
    """The consent page's address for a new client, and the client."""
    stock = StockClient(URL, hub.public, **client)
    await stock.register()
    answer = await browser.get(stock.authorization(server))
    assert "/consent?" in answer.headers["location"], answer.text
    return str(answer.headers["location"]), stock


def words(page: httpx2.Response) -> str:
    """A page's text as it is read: without markup, with single spaces."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


async def test_it_says_who_asks_for_what_as_whom_from_where_and_for_how_long(hub: Hub, browser: Browser) -> None:
    address, _ = await asked(hub, browser, name="Zed Editor")
    read = words(await browser.get(address))
    for told in (
        "Connect Zed Editor ?",
        "as you, Ana",
        "Nobody has checked that name.",
        "a program on this machine",
        "prod/presto",
        "Owner: platform, in #data-platform",
        "a program in a terminal ( cli )",
        "run_query may change things",
        "get_revenue_metrics may change things",
        "the other servers that are open to you from there (dev/scratch)",
        "until 20",
        "Disconnect it under Where am I signed in",
    ):
        assert told in read


@pytest.mark.parametrize(
    ("redirect", "place", "warned"),
    [
        ("http://127.0.0.1:9/callback", "a program on this machine", True),
        ("http://localhost:9/callback", "a program on this machine", True),
        ("http://[::1]:9/callback", "a program on this machine", True),
        (CURSOR, "a program on this machine that opens cursor: addresses", True),
        ("https://chat.example.com/callback", "chat.example.com, a web site", False),
    ],
)
async def test_it_says_where_the_answer_goes(
    hub: Hub, browser: Browser, redirect: str, place: str, warned: bool
) -> None:
    address, _ = await asked(hub, browser, redirect=redirect)
    read = words(await browser.get(address))
    assert f"It answers at {place}" in read
    assert ("Did you start this yourself, a moment ago?" in read) is warned


async def test_a_person_sees_only_tools_that_are_open_to_them_from_there(hub: Hub) -> None:
    fay = Browser(URL, hub.public)
    await fay.sign_in("fay")
    address, _ = await asked(hub, fay)
    read = words(await fay.get(address))
    assert "run_query" in read
    assert "get_revenue_metrics" not in read


async def test_where_nothing_is_open_the_owner_is_named(hub: Hub) -> None:
    gus = Browser(URL, hub.public)
    await gus.sign_in("gus")
    address, _ = await asked(hub, gus)
    read = words(await gus.get(address))
    assert (
        "no tool of prod/presto is open to you from a program in a terminal. Ask platform in #data-platform." in read
    )


async def test_yes_connects_the_client_with_what_was_chosen(hub: Hub, browser: Browser) -> None:
    address, client = await asked(hub, browser)
    answer = await browser.press(await browser.get(address), "allow", scope="tools:read")
    back = await browser.authorize(URL + onward_of(answer))
    tokens = (await client.exchange(query_of(back)["code"])).json()
    assert tokens["scope"] == "tools:read"
    assert claims_of(tokens["access_token"])["aud"] == PRESTO


async def test_a_client_that_asks_to_read_cannot_be_given_more(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public)
    await client.register()
    page = await browser.get(
        f"{URL}/consent?{httpx2.URL(client.authorization('prod/presto', scope='tools:read')).query.decode()}"
    )
    assert 'value="tools"' not in page.text
    answer = await browser.press(page, "allow", scope="tools")
    assert query_of(onward_of(answer))["scope"] == "tools:read"


async def test_no_is_told_to_the_client_and_connects_nothing(hub: Hub, browser: Browser) -> None:
    address, client = await asked(hub, browser)
    answer = await browser.press(await browser.get(address), "deny")
    back = onward_of(answer)
    assert back.startswith(client.redirect)
    told = query_of(back)
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", "the-state", URL)
    assert not await hub.parts.identity.connections.of("ana")
    assert "/consent?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]


async def test_who_is_not_signed_in_signs_in_first(hub: Hub, browser: Browser) -> None:
    address, _ = await asked(hub, browser)
    stranger = Browser(URL, hub.public)
    answer = await stranger.get(address)
    assert answer.headers["location"].startswith("/sign-in?continue=/consent%3F")


async def test_pegboards_own_command_is_not_asked_about(hub: Hub, browser: Browser) -> None:
    own = StockClient(URL, hub.public, client_id="pegboard-cli", redirect="http://127.0.0.1:9/callback")
    request = own.authorization("prod/presto")
    answer = await browser.get(request.replace("/oauth/authorize?", "/consent?"))
    assert URL + answer.headers["location"] == request


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"redirect_uri": "https://evil.example/cb"},
        {"resource": "https://evil.example/mcp/prod/presto"},
        {"resource": None},
        {"scope": "everything"},
    ],
)
async def test_a_request_that_cannot_be_answered_ends_here(
    hub: Hub, browser: Browser, changes: dict[str, str | None]
) -> None:
    client = StockClient(URL, hub.public)
    await client.register()
    request = client.authorization("prod/presto", **changes)
    page = await browser.get(request.replace("/oauth/authorize?", "/consent?"))
    assert page.status_code == 400
    read = words(page)
    assert "Nothing was sent to it." in read
    assert "ask the platform team" in read or "tell the platform team" in read
    assert 'href="https://evil' not in page.text
    assert not onward_of(page)


async def test_who_said_yes_to_every_tool_is_not_asked_by_a_client_that_wants_all_there_is(
    hub: Hub, browser: Browser
) -> None:
    everything = {"scope": "tools tools:read"}  # what most clients ask for: all that the metadata offers
    first, second = StockClient(URL, hub.public), StockClient(URL, hub.public)
    await first.connect(browser, "prod/presto", **everything)
    await second.register()
    answer = await browser.get(second.authorization("dev/scratch", **everything))
    assert answer.headers["location"].startswith(f"{second.redirect}?code=")


async def test_a_client_that_names_the_server_in_its_name_is_asked_about_once(hub: Hub, browser: Browser) -> None:
    first, second, other = (StockClient(URL, hub.public, name) for name in ("Agent (presto)", "Agent (b)", "Agent b"))
    await first.connect(browser, "prod/presto")
    await second.register()
    await other.register()
    assert "?code=" in (await browser.get(second.authorization("dev/scratch"))).headers["location"]
    assert "/consent?" in (await browser.get(other.authorization("dev/scratch"))).headers["location"]


async def test_who_said_yes_to_every_tool_said_so_of_those_that_only_read(hub: Hub, browser: Browser) -> None:
    first, second, third = (StockClient(URL, hub.public) for _ in range(3))
    await first.connect(browser, "prod/presto")
    for client, scope in ((second, "tools:read"), (third, "tools")):
        await client.register()
        asked = await browser.get(client.authorization("dev/scratch", scope=scope))
        assert asked.headers["location"].startswith(f"{client.redirect}?code="), scope
