"""Documents that clients are known by: fetched over real TLS, kept as long as they say, fetched once for many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard_hub.identity.clients.documents import (
    LEFT_ALONE_S,
    LONGEST_S,
    PER_HOST_AND_MINUTE,
    SHORTEST_S,
    USUAL_S,
    DocumentCache,
    kept_for,
    open_documents,
)
from pegboard_hub.identity.clients.fetching import Fetched, Fetcher
from pegboard_hub.identity.clients.rules import ClientRules
from tests.hub.sites import HOST, Names, Site, answer, authority, here_or_public, open_proxy, open_site

pytestmark = pytest.mark.anyio

PUBLIC_URL = "https://pegboard.example.com"


class Reader:
    """A site, and whoever reads its document; time stands until it is moved."""

    def __init__(self, site: Site, fetcher: Fetcher) -> None:
        self.site = site
        self.now = 1000.0
        self._fetcher = fetcher
        self.documents = self.opened(ClientRules())

    def opened(self, rules: ClientRules) -> DocumentCache:
        return DocumentCache(self._fetcher, rules, PUBLIC_URL, lambda: self.now)

    async def name(self) -> str | None:
        """What the client calls itself, as far as it is believed."""
        said = await self.documents.get(self.site.url)
        return said.name if said else None


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    serving, trusting = authority(tmp_path, HOST)
    fetcher = Fetcher(Names([["127.0.0.1"]]).resolve, here_or_public, trusting)
    async with open_site(serving) as site:
        yield Reader(site, fetcher)
    await fetcher.close()


async def test_a_document_is_fetched_by_its_name_and_believed(reader: Reader) -> None:
    said = await reader.documents.get(reader.site.url)
    assert said is not None
    assert (said.name, said.redirect_uris) == ("Example", (f"https://{HOST}/cb",))
    (request,) = reader.site.asked
    assert request.startswith("GET /client.json HTTP/1.1\r\n")
    assert f"Host: {HOST}:{reader.site.port}\r\n" in request
    assert "cookie" not in request.lower()
    assert "authorization" not in request.lower()


async def test_a_document_is_kept_as_long_as_it_says(reader: Reader) -> None:
    reader.site.publish(Cache_Control="max-age=600")
    await reader.name()
    reader.now += 599
    await reader.name()
    assert len(reader.site.asked) == 1
    reader.site.publish(reader.site.document(client_name="Newer"))
    reader.now += 2
    assert await reader.name() == "Newer"


async def test_many_who_ask_at_once_are_one_fetch(reader: Reader) -> None:
    assert await asyncio.gather(*(reader.name() for _ in range(20))) == ["Example"] * 20
    assert len(reader.site.asked) == 1


async def test_one_who_goes_away_leaves_the_others_their_answer(reader: Reader) -> None:
    impatient = asyncio.create_task(reader.name())
    await asyncio.sleep(0)
    patient = asyncio.create_task(reader.name())
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == "Example"
    assert len(reader.site.asked) == 1


async def test_a_known_document_is_used_on_while_its_address_does_not_answer(reader: Reader) -> None:
    reader.site.publish(Cache_Control="max-age=60")
    await reader.name()
    reader.site.says = answer("busy", "503 Service Unavailable")
    reader.now += 61
    assert await reader.name() == "Example"
    reader.now += LONGEST_S
    assert await reader.name() is None
    assert "503" in reader.documents.trouble(reader.site.url)


@pytest.mark.parametrize(
    "now", [answer("gone", "404 Not Found"), answer("{}"), answer("<html>", content_type="text/html")]
)
async def test_a_document_that_its_owner_took_back_is_not_used_on(reader: Reader, now: bytes) -> None:
    await reader.name()
    reader.site.says = now
    reader.now += USUAL_S + 1
    assert await reader.name() is None


async def test_after_an_error_the_address_is_left_alone_for_seconds_and_then_asked_again(reader: Reader) -> None:
    reader.site.says = answer("no", "500 Internal Server Error")
    assert await reader.name() is None
    reader.site.publish()
    assert await reader.name() is None
    assert len(reader.site.asked) == 1
    reader.now += LEFT_ALONE_S + 0.1
    assert await reader.name() == "Example"
    assert reader.documents.trouble(reader.site.url) == ""


async def test_one_host_is_not_asked_for_ever_new_documents(reader: Reader) -> None:
    known = await reader.name()
    for number in range(PER_HOST_AND_MINUTE + 5):
        await reader.documents.get(f"{reader.site.url}/{number}")
    assert len(reader.site.asked) == PER_HOST_AND_MINUTE
    reader.now += USUAL_S + 1
    for number in range(PER_HOST_AND_MINUTE):
        await reader.documents.get(f"{reader.site.url}/again/{number}")
    assert await reader.name() == known


async def test_the_operator_names_the_hosts_that_documents_may_come_from(reader: Reader) -> None:
    documents = reader.opened(ClientRules(document_hosts=("other.example.com",)))
    assert not documents.covers(reader.site.url)
    assert await documents.get(reader.site.url) is None
    assert HOST in documents.trouble(reader.site.url)
    assert not reader.site.asked


async def test_nothing_is_fetched_from_pegboard_itself(reader: Reader) -> None:
    assert not reader.documents.covers(f"{PUBLIC_URL}/oauth/authorize/x")
    assert await reader.documents.get(f"{PUBLIC_URL}/x.json") is None


async def test_documents_of_this_machine_are_for_developing_a_client(reader: Reader) -> None:
    async with open_site(None) as site:
        site.publish(site.document(redirect_uris=["http://127.0.0.1/cb"]))
        assert not reader.documents.covers(site.url)
        assert await reader.documents.get(site.url) is None
        allowed = reader.opened(ClientRules(documents_from_loopback=True))
        said = await allowed.get(site.url)
        assert said is not None
        assert said.redirect_uris == ("http://127.0.0.1/cb",)


async def test_documents_of_this_machine_need_a_public_url_of_this_machine() -> None:
    rules = ClientRules(documents_from_loopback=True)
    with pytest.raises(ConfigurationError, match="not a loopback address"):
        open_documents(rules, PUBLIC_URL)
    assert open_documents(rules, "http://localhost:8400")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, USUAL_S),
        ({"cache_control": "max-age=600"}, 600),
        ({"cache_control": "public, Max-Age=600"}, 600),
        ({"cache_control": "max-age=1"}, SHORTEST_S),
        ({"cache_control": "max-age=99999999999"}, LONGEST_S),
        ({"cache_control": "max-age=" + "9" * 400}, SHORTEST_S),
        ({"cache_control": "max-age=-5"}, SHORTEST_S),
        ({"cache_control": "max-age=nan"}, SHORTEST_S),
        ({"cache_control": "no-store"}, SHORTEST_S),
        ({"cache_control": "no-cache, max-age=600"}, SHORTEST_S),
        ({"expires": "Wed, 25 Nov 2026 12:10:00 GMT", "date": "Wed, 25 Nov 2026 12:00:00 GMT"}, 600),
        ({"expires": "0", "date": "Wed, 25 Nov 2026 12:00:00 GMT"}, SHORTEST_S),
        ({"expires": "Wed, 25 Nov 2026 12:10:00 GMT", "date": ""}, SHORTEST_S),
    ],
)
async def test_cache_headers_count_within_bounds(headers: dict[str, str], seconds: float) -> None:
    assert kept_for(replace(Fetched(b"", "", "", ""), **headers)) == seconds


async def test_a_document_may_use_the_operators_schemes(reader: Reader) -> None:
    said: dict[str, Any] = reader.site.document(redirect_uris=["acme-ide://cb"])
    reader.site.publish(said)
    assert await reader.name() is None
    assert "scheme acme-ide" in reader.documents.trouble(reader.site.url)
    reader.documents = reader.opened(ClientRules(redirect_schemes=frozenset({"acme-ide"})))
    assert await reader.name() == "Example"


async def test_a_document_is_fetched_through_the_proxy_that_the_operator_names(tmp_path: Path) -> None:
    serving, trusting = authority(tmp_path, HOST)
    names = Names([["10.0.0.1"]])
    async with open_site(serving) as site, open_proxy(site.port) as proxy:
        fetcher = Fetcher(names.resolve, verify=trusting, proxy=f"http://127.0.0.1:{proxy.port}")
        said = await DocumentCache(fetcher, ClientRules(), PUBLIC_URL).get(site.url)
        assert said is not None
        assert proxy.asked[0].startswith(f"CONNECT {HOST}:{site.port} HTTP/1.1")
        assert not names.asked
        await fetcher.close()
