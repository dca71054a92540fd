"""What a decision on a client does to the client: a blocked one gets nothing, an approved one asks nobody."""

from __future__ import annotations

import pytest

from pegboard_hub.identity.clients.model import Client, Standing
from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def browser(hub: Hub) -> Browser:
    return Browser(URL, hub.public)


async def found(hub: Hub, client: StockClient) -> Client:
    known = await hub.parts.identity.clients.get(client.client_id)
    assert known is not None
    return known


async def decide(hub: Hub, client: StockClient, standing: Standing, surface: str | None = None) -> None:
    software = (await found(hub, client)).software
    await hub.parts.identity.clients.decide(software, standing, surface, "pat", "as the test wants")


async def test_a_blocked_client_gets_nothing_anywhere(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public, name="Editor")
    tokens = await client.connect(browser, "prod/presto")
    code_asked = client.authorization("dev/scratch")
    await decide(hub, client, Standing.BLOCKED)
    assert (await browser.get(code_asked)).status_code == 400
    assert (await client.refresh(tokens["refresh_token"])).status_code in (400, 401)
    document = {"client_name": client.name, "redirect_uris": [client.redirect]}
    assert (await hub.public.post("/oauth/register", json=document)).status_code == 403


async def test_a_code_from_before_the_block_is_worth_nothing(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public, name="Editor")
    await client.connect(browser, "prod/presto")
    answer = await browser.authorize(client.authorization("prod/presto"))
    code = answer.partition("code=")[2].partition("&")[0]
    await decide(hub, client, Standing.BLOCKED)
    assert (await client.exchange(code)).status_code in (400, 401)
    await decide(hub, client, Standing.UNKNOWN)
    assert (await client.exchange(code)).status_code == 400


async def test_what_a_blocked_client_had_is_revoked_and_stays_so(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public, name="Editor")
    tokens = await client.connect(browser, "prod/presto")
    await decide(hub, client, Standing.BLOCKED)
    revoked = hub.parts.identity.revocations
    assert client.client_id in revoked.current.clients
    assert revoked.current.tokens
    assert await hub.parts.identity.connections.of("ana") == []
    await decide(hub, client, Standing.APPROVED)
    assert not revoked.current.clients
    assert revoked.current.tokens
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400
    assert (await client.connect(browser, "prod/presto"))["access_token"]


async def test_an_approved_client_asks_nobody_and_counts_as_decided(hub: Hub, browser: Browser) -> None:
    client = StockClient(URL, hub.public, name="Editor")
    await client.register()
    await decide(hub, client, Standing.APPROVED, "ide")
    await browser.sign_in("ana")
    response = await browser.get(client.authorization("prod/presto"))
    assert response.headers["location"].startswith(client.redirect)
    assert (await found(hub, client)).surface == "ide"


async def test_the_software_is_decided_on_and_not_one_id_of_it(hub: Hub, browser: Browser) -> None:
    first = StockClient(URL, hub.public, name="Editor")
    second = StockClient(URL, hub.public, name="Editor", redirect="http://127.0.0.1:7/callback")
    await first.register()
    await second.register(client_uri="https://editor.example.com/")
    assert first.client_id != second.client_id
    await decide(hub, first, Standing.BLOCKED)
    assert (await found(hub, second)).standing is Standing.BLOCKED
