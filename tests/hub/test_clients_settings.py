"""What the operator's sign-in file says of clients is what the hub does."""

from __future__ import annotations

import pytest

from tests.hub.company import URL, Company, opened
from tests.hub.sites import open_site
from tests.oauth import Browser, StockClient, claims_of

pytestmark = pytest.mark.anyio

BOT = """
[clients.registered.ads-bot]
name = "Ads bot"
redirect_uris = ["https://bot.example.com/cb"]
surface = "ide"
"""


def settle(company: Company, text: str) -> None:
    company.sign_in = company.grants.parent / "sign-in.toml"
    company.sign_in.write_text(text)


async def test_a_registered_client_asks_nobody_and_counts_as_it_is_registered(company: Company) -> None:
    settle(company, BOT)
    async with opened(company) as hub:
        browser = Browser(URL, hub.public)
        await browser.sign_in("ana")
        client = StockClient(URL, hub.public, redirect="https://bot.example.com/cb", client_id="ads-bot")
        response = await browser.get(client.authorization("prod/presto"))
        assert response.headers["location"].startswith(client.redirect)
        listed = (await hub.api("pat", "clients")).json()["clients"]
        assert ("Ads bot", "registered", "approved", "ide") in {
            (each["name"], each["kind"], each["standing"], each["surface"]) for each in listed
        }


async def test_what_is_switched_off_is_not_offered_and_not_done(company: Company) -> None:
    settle(company, "[clients]\ndynamic_registration = false\ndocuments = false\n")
    async with opened(company) as hub:
        document = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
        assert "registration_endpoint" not in document
        assert not document.get("client_id_metadata_document_supported")
        said = {"client_name": "Editor", "redirect_uris": ["http://127.0.0.1/cb"]}
        assert (await hub.public.post("/oauth/register", json=said)).status_code in (403, 404, 405)
        client = StockClient(URL, hub.public, client_id="https://app.example.com/client.json")
        response = await Browser(URL, hub.public).get(client.authorization("prod/presto"))
        assert response.status_code == 400
        assert "not let in here" in response.text


async def test_a_client_that_is_developed_here_may_be_known_by_a_document_of_this_machine(company: Company) -> None:
    settle(company, "[clients]\ndocuments_from_loopback = true\n")
    async with open_site(None) as site, opened(company) as hub:
        site.publish(site.document(redirect_uris=["http://127.0.0.1/callback"]))
        client = StockClient(URL, hub.public, client_id=site.url)
        tokens = await client.connect(Browser(URL, hub.public), "prod/presto")
        claims = claims_of(tokens["access_token"])
        assert (claims["client_id"], claims["surface"]) == (site.url, "cli")


async def test_other_operators_look_after_clients_when_the_file_says_so(company: Company) -> None:
    settle(company, 'operators = ["finance"]\n')
    async with opened(company) as hub:
        assert (await hub.api("fay", "clients")).status_code == 200
        assert (await hub.api("pat", "clients")).status_code == 403
