"""Clients sign in as they are known and decided on: by a document, approved without a question, blocked never."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pegboard_hub.identity.clients.documents import DocumentCache
from pegboard_hub.identity.clients.fetching import Fetcher
from pegboard_hub.identity.clients.model import Client, Standing
from tests.hub.company import URL, Hub
from tests.hub.sites import HOST, Names, Site, answer, authority, here_or_public, open_site
from tests.oauth import Browser, StockClient, claims_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


@pytest.fixture
def browser(hub: Hub) -> Browser:
    return Browser(URL, hub.public)


@pytest.fixture
async def site(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A site that the hub fetches a client's document from, as it does from the internet."""
    serving, trusting = authority(tmp_path, HOST)
    clients = hub.parts.identity.clients
    fetcher = Fetcher(Names([["127.0.0.1"]]).resolve, here_or_public, trusting)
    monkeypatch.setattr(clients, "_documents", DocumentCache(fetcher, clients.rules, URL))
    async with open_site(serving) as opened:
        yield opened
    await fetcher.close()


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
    asked = await browser.get(code_asked)
    assert asked.status_code == 400
    assert "the operators here have blocked it" in asked.text
    told = await hub.public.get(code_asked, headers={"Accept": "text/html"})
    assert "The platform team has blocked <bdi" in told.text
    assert ">Editor</bdi>." in told.text
    assert "ask the platform team why" in told.text
    assert client.client_id not in told.text
    assert "add it again" not in told.text
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


async def test_a_client_known_by_a_document_signs_in_without_registering(
    hub: Hub, browser: Browser, site: Site
) -> None:
    client = StockClient(URL, hub.public, redirect=f"https://{HOST}/cb", client_id=site.url)
    claims = claims_of((await client.connect(browser, "prod/presto"))["access_token"])
    assert (claims["client_id"], claims["surface"]) == (site.url, "ide")
    assert (await client.connect(browser, "dev/scratch"))["access_token"]
    assert len(site.asked) == 1
    listed = {each.software: each for each in (await hub.parts.identity.clients.listed()).software}
    assert [name for _, name, _ in listed[site.url].users] == ["Ana"]


async def test_where_a_document_sends_answers_is_what_counts(hub: Hub, browser: Browser, site: Site) -> None:
    client = StockClient(URL, hub.public, redirect="https://evil.example/cb", client_id=site.url)
    assert (await browser.get(client.authorization("prod/presto"))).status_code == 400


async def test_a_client_whose_document_is_gone_gets_nothing(hub: Hub, browser: Browser, site: Site) -> None:
    site.says = answer("gone", "404 Not Found")
    client = StockClient(URL, hub.public, redirect=f"https://{HOST}/cb", client_id=site.url)
    asked = await browser.get(client.authorization("prod/presto"))
    assert asked.status_code == 400
    assert "its address answers 404" in asked.text
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": site.url}
    assert (await hub.public.post("/oauth/token", data=form)).status_code in (400, 401)
    assert len(site.asked) == 1


def asked_anew(hub: Hub, site: Site, said: bytes) -> None:
    """Have the site say something else, and the hub forget what it said before."""
    site.says = said
    documents = hub.parts.identity.clients._documents
    assert isinstance(documents, DocumentCache)
    documents._kept.clear()
    documents._failed.clear()


async def test_a_client_whose_document_is_gone_is_disconnected_for_good(
    hub: Hub, browser: Browser, site: Site
) -> None:
    """Its owner decides when the document is there, and must not decide with it what a person took back."""
    client = StockClient(URL, hub.public, redirect=f"https://{HOST}/cb", client_id=site.url)
    await client.connect(browser, "prod/presto")
    there = site.says
    asked_anew(hub, site, answer("gone", "404 Not Found"))
    fetched = len(site.asked)
    await browser.press(await browser.get(f"{URL}/sessions"), "Disconnect Example from prod/presto")
    assert len(site.asked) == fetched
    asked_anew(hub, site, there)
    assert "/consent?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]


async def test_people_are_asked_again_when_a_document_sends_answers_elsewhere(
    hub: Hub, browser: Browser, site: Site
) -> None:
    """Who said yes to a web site has said nothing of whatever listens on their machine."""
    client = StockClient(URL, hub.public, redirect=f"https://{HOST}/cb", client_id=site.url)
    await client.connect(browser, "prod/presto")
    redirects = [client.redirect, "http://127.0.0.1/cb"]
    asked_anew(hub, site, answer(json.dumps(site.document(redirect_uris=redirects))))
    client.redirect = redirects[1]
    assert "/consent?" in (await browser.get(client.authorization("prod/presto"))).headers["location"]
    await client.connect(browser, "prod/presto")
    asked_anew(hub, site, answer(json.dumps(site.document(redirect_uris=redirects[1:], client_name="Renamed"))))
    assert "?code=" in (await browser.get(client.authorization("dev/scratch"))).headers["location"]


@pytest.mark.parametrize("server", ["prod/presto", "api"])
async def test_what_came_of_an_approval_ends_with_it(hub: Hub, browser: Browser, server: str) -> None:
    """Nobody said yes to it but the operator, and the API is for approved clients alone."""
    client = StockClient(URL, hub.public, name="Editor")
    await client.register()
    await decide(hub, client, Standing.APPROVED)
    tokens = await client.connect(browser, server)
    await decide(hub, client, Standing.UNKNOWN)
    assert (await client.refresh(tokens["refresh_token"])).status_code == 400
    assert claims_of(tokens["access_token"])["jti"] in hub.parts.identity.revocations.current.tokens
