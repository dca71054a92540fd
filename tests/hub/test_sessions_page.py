"""Where am I signed in: every sign-in with what is connected from it, and the end of either."""

from __future__ import annotations

import re

import pytest

from pegboard_hub.identity.clients.model import Standing
from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient, claims_of, query_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
async def browser(hub: Hub) -> Browser:
    found = Browser(URL, hub.public)
    await found.sign_in("ana")
    return found


async def text(browser: Browser, path: str = "/sessions") -> str:
    page = await browser.get(URL + path)
    assert page.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", page.text).split())


async def test_each_sign_in_is_named_and_this_one_is_marked(hub: Hub, browser: Browser) -> None:
    hub.public.headers["user-agent"] = FIREFOX
    other = Browser(URL, hub.public)
    await other.sign_in("ana")
    read = await text(other)
    assert read.index("Firefox 140 on Linux") < read.index("this browser") < read.index("A browser that did not say")
    assert read.count("Signed in 20") == 2
    assert read.count("this browser") >= 1


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (FIREFOX, "Firefox 140 on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
            "Chrome 142 on Windows",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.1", "Edge 142 on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/26.1 Safari/605.1.15", "Safari 26 on macOS"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) Version/26.0 Mobile Safari/604.1",
            "Safari 26 on an iPhone",
        ),
        ("<script>alert(1)</script>", "A browser that did not say what it is"),
    ],
)
async def test_a_browser_is_called_by_what_people_call_it(hub: Hub, agent: str, device: str) -> None:
    hub.public.headers["user-agent"] = agent
    browser = Browser(URL, hub.public)
    await browser.sign_in("fay")
    assert device in await text(browser)


async def test_what_is_connected_is_shown_with_what_it_may(hub: Hub, browser: Browser) -> None:
    await StockClient(URL, hub.public, name="Zed <i>Editor</i>").connect(browser, "prod/presto")
    await StockClient(URL, hub.public, name="Reader").connect(browser, "dev/scratch", scope="tools:read")
    page = await browser.get(f"{URL}/sessions")
    assert "Zed &lt;i&gt;Editor&lt;/i&gt;" in page.text
    read = await text(browser)
    assert "Reader dev/scratch only read" in read
    assert "prod/presto every tool" in read


async def test_disconnecting_ends_that_connection_alone_and_at_once(hub: Hub, browser: Browser) -> None:
    client, other = StockClient(URL, hub.public, name="One"), StockClient(URL, hub.public, name="Two")
    tokens = await client.connect(browser, "prod/presto")
    kept = await other.connect(browser, "dev/scratch")
    connection = next(c for c in await hub.parts.identity.connections.of("ana") if c.client_id == client.client_id)
    page = await browser.get(f"{URL}/sessions")
    answer = await browser.press(page, "Disconnect One from prod/presto", connection=connection.connection)
    read = await text(browser, answer.headers["location"])
    assert "Disconnected. What the program had there is void" in read
    assert "One prod/presto" not in read
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400
    assert (await other.refresh(kept["refresh_token"])).status_code == 200


async def test_what_was_disconnected_does_not_come_back_unasked(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public, name="One")
    await client.connect(browser, "prod/presto")
    assert "code=" in (await browser.get(client.authorization("prod/presto"))).headers["location"]
    page = await browser.get(f"{URL}/sessions")
    await browser.press(page, "Disconnect One from prod/presto")
    assert "/consent?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]


@pytest.mark.parametrize("standing", [Standing.UNKNOWN, Standing.APPROVED])
async def test_what_was_disconnected_is_said_to_ask_where_it_asks(
    hub: Hub, browser: Browser, standing: Standing
) -> None:
    client = StockClient(URL, hub.public, name="One")
    await client.register()
    known = await hub.parts.identity.clients.last_known(client.client_id)
    assert known is not None
    if standing is Standing.APPROVED:
        await hub.parts.identity.clients.decide(known.software, standing, None, "pat", "as the test wants")
    await client.connect(browser, "prod/presto")
    page = await browser.get(f"{URL}/sessions")
    answer = await browser.press(page, "Disconnect One from prod/presto")
    asks = "/consent?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]
    assert (
        "you are asked before it connects to any server again" in await text(browser, answer.headers["location"])
    ) == asks


async def test_a_program_that_signed_in_twice_is_one_row_and_disconnected_for_good(
    hub: Hub, browser: Browser
) -> None:
    twice = StockClient(URL, hub.public, name="One"), StockClient(URL, hub.public, name="One")
    await twice[0].register(client_uri="https://one.example/presto")
    tokens = [await client.connect(browser, "prod/presto") for client in (*twice, twice[0])]
    elsewhere = await twice[0].connect(browser, "dev/scratch")
    waiting = await browser.authorize(twice[1].authorization("prod/presto"))
    assert len({client.client_id for client in twice}) == 2
    page = await browser.get(f"{URL}/sessions")
    assert page.text.count("from prod/presto") == 1
    answer = await browser.press(page, "Disconnect One from prod/presto")
    read = await text(browser, answer.headers["location"])
    assert "you are asked before it connects to any server again" in read
    assert "prod/presto" not in read
    for client, had in zip((*twice, twice[0]), tokens, strict=True):
        assert (await client.refresh(had["refresh_token"])).status_code == 400
        assert claims_of(had["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens
    assert (await twice[1].exchange(query_of(waiting)["code"])).status_code == 400
    assert (await twice[0].refresh(elsewhere["refresh_token"])).status_code == 200


async def test_two_sign_ins_of_one_program_are_disconnected_each_by_itself(hub: Hub, browser: Browser) -> None:
    other = Browser(URL, hub.public)
    await other.sign_in("ana")
    client = StockClient(URL, hub.public, name="One")
    here, there = [await client.connect(each, "prod/presto") for each in (browser, other)]
    sid = claims_of(here["access_token"])["sid"]
    mine = next(c for c in await hub.parts.identity.connections.of("ana") if c.sid == sid)
    page = await browser.get(f"{URL}/sessions")
    await browser.press(page, "Disconnect One from prod/presto", connection=mine.connection)
    assert (await client.refresh(here["refresh_token"])).status_code == 400
    assert (await client.refresh(there["refresh_token"])).status_code == 200


async def test_another_device_can_be_signed_out_from_here(hub: Hub, browser: Browser) -> None:
    lost = Browser(URL, hub.public)
    await lost.sign_in("ana")
    client = StockClient(URL, hub.public)
    tokens = await client.connect(lost, "prod/presto")
    here, there = [s.sid for s in await hub.parts.identity.sessions.of("ana")][::-1]
    page = await browser.get(f"{URL}/sessions")
    answer = await browser.press(page, "Sign out this device", session=there)
    assert "Signed out there." in await text(browser, answer.headers["location"])
    assert [s.sid for s in await hub.parts.identity.sessions.of("ana")] == [here]
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400


async def test_signing_out_everywhere_leaves_nothing(hub: Hub, browser: Browser) -> None:
    other = Browser(URL, hub.public)
    await other.sign_in("ana")
    page = await browser.get(f"{URL}/sessions")
    answer = await browser.press(page, "Sign out everywhere")
    assert answer.headers["location"] == "/sign-out"
    assert not await hub.parts.identity.sessions.of("ana")
    assert hub.parts.identity.cookie.name not in browser.cookies


async def test_nobody_else_is_shown_or_can_be_signed_out(hub: Hub, browser: Browser) -> None:
    fay = Browser(URL, hub.public)
    await fay.sign_in("fay")
    client = StockClient(URL, hub.public, name="Fays own")
    await client.connect(fay, "prod/presto", "fay")
    theirs = (await hub.parts.identity.connections.of("fay"))[0]
    assert "Fays own" not in await text(browser)
    await StockClient(URL, hub.public).connect(browser, "prod/presto")
    page = await browser.get(f"{URL}/sessions")
    await browser.press(page, "Sign out of this browser", session=theirs.sid)
    await browser.press(page, "Disconnect A client from prod/presto", connection=theirs.connection)
    assert [c.connection for c in await hub.parts.identity.connections.of("fay")] == [theirs.connection]
    assert "Fays own" in await text(fay)
