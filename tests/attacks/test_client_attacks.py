"""Attacks through clients: documents that lead the hub astray, floods, lies, and names that mean harm."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard_hub.identity.clients.addresses import is_public
from pegboard_hub.identity.clients.documents import DocumentCache
from pegboard_hub.identity.clients.fetching import MOST_BYTES, NOT_FROM_HERE, Fetcher
from pegboard_hub.identity.clients.names import LONGEST_NAME, UNNAMED, cleaned, shown
from pegboard_hub.identity.clients.rules import ClientRules
from tests.hub.sites import HOST, Names, Site, answer, authority, here_or_public, open_site

pytestmark = pytest.mark.anyio

PUBLIC_URL = "https://pegboard.example.com"
METADATA_SERVICE = "169.254.169.254"

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    METADATA_SERVICE,
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    f"::ffff:{METADATA_SERVICE}",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1%eth0",
]

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:1.1.1.1", "64:ff9b::101:101"]

URLS = [
    f"http://{HOST}/client.json",
    "http://localhost/client.json",
    f"http://{METADATA_SERVICE}/latest/meta-data",
    f"https://{HOST}",
    f"https://{HOST}/",
    f"https://{HOST}/client.json#x",
    f"https://{HOST}/client.json?x=1",
    f"https://user@{HOST}/client.json",
    f"https://{HOST}@evil.com/client.json",
    f"https://{HOST}/a/../client.json",
    f"https://{HOST}/a/./client.json",
    f"https://{HOST}/..",
    f"https://{HOST}/%2e%2e/client.json",
    f"https://{HOST}/%2E%2E/client.json",
    f"https://{HOST}/a%2Fb",
    f"https://{HOST}/a%00b",
    f"https://{HOST}\\@evil.com/client.json",
    f"https://{HOST}/c json",
    f"https://{HOST}/c\r\nHost: evil.com",
    f"https://{HOST}/{'a' * 500}",
    f"https://{HOST.upper()}/client.json",
    f"https://{HOST}./client.json",
    f"https://{HOST}:22/client.json",
    f"https://{HOST}:25/client.json",
    f"https://{HOST}:0/client.json",
    f"https://{HOST}:65536/client.json",
    f"https://{HOST}:/client.json",
    "https://127.0.0.1/client.json",
    "https://2130706433/client.json",
    "https://0x7f.1/client.json",
    "https://[::1]/client.json",
    "https://[::ffff:127.0.0.1]/client.json",
    "https://localhost/client.json",
    "https://metadata/computeMetadata/v1",
    "https://\u0430pp.example.com/client.json",
    "https://app.example\u3002com/client.json",
    "https:/app.example.com/client.json",
    "https:///client.json",
    "ftp://app.example.com/client.json",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "HTTPS://app.example.com/client.json",
]

LIES: list[tuple[str, Callable[[Site], Any]]] = [
    ("another client's id", lambda site: site.document(client_id="https://good.example.com/client.json")),
    ("the id in another form", lambda site: site.document(client_id=site.url.replace(HOST, HOST.upper()))),
    ("the id with a slash more", lambda site: site.document(client_id=site.url + "/")),
    ("no id", lambda site: site.document(client_id=None)),
    ("a list of ids", lambda site: site.document(client_id=[site.url])),
    ("no name", lambda site: site.document(client_name=None)),
    ("an empty name", lambda site: site.document(client_name=" ")),
    ("a name that is no text", lambda site: site.document(client_name={"a": 1})),
    ("a secret", lambda site: site.document(client_secret="everybody-reads-this")),
    ("a secret without an end", lambda site: site.document(client_secret_expires_at=0)),
    ("a secret in a form", lambda site: site.document(token_endpoint_auth_method="client_secret_post")),
    ("a secret in a header", lambda site: site.document(token_endpoint_auth_method="client_secret_basic")),
    ("a secret that signs", lambda site: site.document(token_endpoint_auth_method="client_secret_jwt")),
    ("a key that nobody checks", lambda site: site.document(token_endpoint_auth_method="private_key_jwt")),
    ("no redirects", lambda site: site.document(redirect_uris=None)),
    ("empty redirects", lambda site: site.document(redirect_uris=[])),
    ("a script for a redirect", lambda site: site.document(redirect_uris=["javascript:alert(1)"])),
    (
        "one bad redirect among good ones",
        lambda site: site.document(redirect_uris=["https://a.example/cb", "file:/x"]),
    ),
    (
        "a hundred redirects",
        lambda site: site.document(redirect_uris=[f"https://a.example/{n}" for n in range(100)]),
    ),
    ("another grant", lambda site: site.document(grant_types=["password"])),
    ("a list", lambda site: [site.document()]),
    ("nothing", lambda site: None),
]

ANSWERS: list[tuple[str, bytes]] = [
    ("a redirect to the metadata service", answer("", "302 Found", Location=f"http://{METADATA_SERVICE}/latest")),
    ("a redirect to this machine", answer("", "307 Temporary Redirect", Location="https://127.0.0.1:8400/")),
    ("a redirect to itself", answer("", "301 Moved Permanently", Location="/client.json")),
    ("a refresh", answer("{}", Refresh="0; url=http://127.0.0.1/")),
    ("another success", answer("{}", "203 Non-Authoritative Information")),
    ("nothing at all", b""),
    ("no HTTP", b"220 mail.example.com ESMTP\r\n"),
    ("a page", answer("<html></html>", content_type="text/html")),
    ("JSON that says it is a page", answer("{}", content_type="text/html; application/json")),
    ("no JSON", answer("{'client_id': 1}")),
    ("no UTF-8", answer(b'{"client_id": "\xff"}')),
    ("deep JSON", answer("[" * 5000)),
    ("long numbers", answer('{"client_id": ' + "9" * 5000 + "}")),
    ("two answers in one", answer("{}", "302 Found") + answer("{}")),
]


class Victim:
    """A hub that fetches documents from one site."""

    def __init__(self, site: Site, trusting: Any) -> None:
        self.site = site
        self.names = Names([["127.0.0.1"]])
        self.fetcher = Fetcher(self.names.resolve, here_or_public, trusting, seconds=1)
        self.documents = DocumentCache(self.fetcher, ClientRules(), PUBLIC_URL)

    async def believes(self) -> bool:
        return await self.documents.get(self.site.url) is not None

    @property
    def trouble(self) -> str:
        return self.documents.trouble(self.site.url)


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncIterator[Victim]:
    serving, trusting = authority(tmp_path, HOST)
    async with open_site(serving) as site:
        found = Victim(site, trusting)
        yield found
        await found.fetcher.close()


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_this_machine_network_or_cloud_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_what_is_not_public_stays_so_in_every_dress(address: ipaddress.IPv4Address) -> None:
    for dress in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert is_public(ipaddress.ip_address(dress)) == is_public(address)
    for dress in (f"::{address}", f"64:ff9b:1::{address}", f"2001::{address}"):
        assert not is_public(ipaddress.ip_address(dress))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if is_public(address):
        assert not any((address.is_private, address.is_loopback, address.is_link_local, address.is_multicast))


@pytest.mark.parametrize("addresses", [[address] for address in NOT_PUBLIC if address != "127.0.0.1"])
async def test_a_name_that_leads_inside_is_not_followed(
    victim: Victim, addresses: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    victim.names.answers = [addresses]
    assert not await victim.believes()
    assert "nothing is fetched from" in caplog.text
    assert not victim.site.asked


async def test_nobody_learns_which_names_there_are_inside(victim: Victim) -> None:
    told = set()
    for number, answers in enumerate(([["10.0.0.1"]], [[]], [["127.0.0.9"]])):
        victim.names.answers = [*answers]
        url = victim.site.url.replace("/client.json", f"/{number}.json")
        assert await victim.documents.get(url) is None
        told.add(victim.documents.trouble(url))
    assert told == {NOT_FROM_HERE}


async def test_one_address_inside_among_others_spoils_the_name(victim: Victim) -> None:
    victim.names.answers = [["127.0.0.1", "10.0.0.1"]]
    assert not await victim.believes()
    assert not victim.site.asked


async def test_a_name_is_looked_up_once_so_it_cannot_answer_differently_the_second_time(victim: Victim) -> None:
    victim.names.answers = [["127.0.0.1"], [METADATA_SERVICE]]
    assert await victim.believes()
    assert victim.names.asked == [HOST]


async def test_a_name_that_turned_inside_since_is_refused_and_its_document_forgotten(victim: Victim) -> None:
    now = 0.0
    documents = DocumentCache(victim.fetcher, ClientRules(), PUBLIC_URL, lambda: now)
    assert await documents.get(victim.site.url)
    victim.names.answers = [[METADATA_SERVICE]]
    now += 3601
    assert await documents.get(victim.site.url) is None
    assert len(victim.site.asked) == 1


@pytest.mark.parametrize("url", URLS)
async def test_what_is_no_documents_url_is_never_looked_up(victim: Victim, url: str) -> None:
    assert not victim.documents.covers(url)
    assert await victim.documents.get(url) is None
    assert not victim.names.asked


@pytest.mark.parametrize(("what", "lie"), LIES, ids=[what for what, _ in LIES])
async def test_a_document_that_lies_is_not_believed(victim: Victim, what: str, lie: Callable[[Site], Any]) -> None:
    victim.site.says = answer(json.dumps(lie(victim.site)))
    assert not await victim.believes()
    assert len(victim.site.asked) == 1


@pytest.mark.parametrize(("what", "says"), ANSWERS, ids=[what for what, _ in ANSWERS])
async def test_an_answer_that_is_no_document_is_not_followed(victim: Victim, what: str, says: bytes) -> None:
    victim.site.says = says
    assert not await victim.believes()
    assert len(victim.site.asked) == 1
    assert victim.names.asked == [HOST]


async def test_a_member_that_is_there_twice_is_not_read_either_way(victim: Victim) -> None:
    said = json.dumps(victim.site.document())
    victim.site.says = answer(said[:-1] + ', "redirect_uris": ["https://evil.example/cb"]}')
    assert not await victim.believes()


async def test_what_an_inner_service_says_is_told_to_nobody(victim: Victim) -> None:
    victim.site.says = answer('{"AccessKeyId": "hidden-value"}', X_Secret="hidden-value")
    assert not await victim.believes()
    assert "hidden-value" not in victim.trouble


async def test_a_document_of_just_the_most_is_read_and_one_byte_more_is_not(victim: Victim) -> None:
    said = json.dumps(victim.site.document())
    victim.site.says = answer(said + " " * (MOST_BYTES - len(said)))
    assert await victim.believes()
    victim.documents = DocumentCache(victim.fetcher, ClientRules(), PUBLIC_URL)
    victim.site.says = answer(said + " " * (MOST_BYTES + 1 - len(said)))
    assert not await victim.believes()
    assert "larger" in victim.trouble


async def test_a_document_without_end_is_left_early(victim: Victim) -> None:
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 50_000_000:
            writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            sent += 65536
            await writer.drain()

    victim.site.serve = pour
    assert not await victim.believes()
    assert "larger" in victim.trouble
    assert sent < 50_000_000


async def test_a_small_answer_that_grows_when_unpacked_is_not_unpacked(victim: Victim) -> None:
    bomb = gzip.compress(b" " * 10_000_000)[:MOST_BYTES]
    victim.site.says = answer(bomb, Content_Encoding="gzip")
    assert not await victim.believes()
    assert "compressed" in victim.trouble


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"]
)
async def test_a_site_that_answers_drop_by_drop_is_left_in_time(
    victim: Victim, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b" " if head else b"X")
            await writer.drain()
            await asyncio.sleep(0.05)

    victim.site.serve = drip
    began = time.monotonic()
    assert not await victim.believes()
    assert "within 1 seconds" in caplog.text
    assert time.monotonic() - began < 20  # it would go on for ever


async def test_a_certificate_of_another_name_is_not_believed(tmp_path: Path) -> None:
    serving, trusting = authority(tmp_path, "evil.example.com")
    async with open_site(serving) as site:
        victim = Victim(site, trusting)
        assert not await victim.believes()
        assert not site.asked
        await victim.fetcher.close()


async def test_a_certificate_of_an_unknown_authority_is_not_believed(tmp_path: Path) -> None:
    serving, _ = authority(tmp_path, HOST)
    async with open_site(serving) as site:
        victim = Victim(site, None)
        assert not await victim.believes()
        await victim.fetcher.close()


async def test_a_proxy_of_the_environment_is_not_used(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await victim.believes()


NAMES = [
    ("Good\u202egnp.exe", "Good‹U+202E›gnp.exe"),
    ("Go\u200bod", "Go‹U+200B›od"),
    ("\u2066Good\u2069", "‹U+2066›Good‹U+2069›"),
    ("Good\ufeff", "Good‹U+FEFF›"),
    ("Go\u00adod", "Go‹U+00AD›od"),
    ("\u3164", "‹U+3164›"),
    ("Good\u00a0App", "Good‹U+00A0›App"),
    ("Go\U000e0041od", "Go‹U+E0041›od"),
    ("Z\u0335\u0336\u0337\u0338a", "Z\u0335\u0336‹U+0337›‹U+0338›a"),
    ("\u0301x", "‹U+0301›x"),
    ("Zoë 日本 עברית", "Zoë 日本 עברית"),
]


@pytest.mark.parametrize(("name", "visible"), NAMES)
def test_nothing_hides_in_a_name(name: str, visible: str) -> None:
    assert shown(name) == visible


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("  Good\r\nApp\x00\x1b[2J ", "Good App [2J"),
        ("Good\u2028App", "Good App"),
        ("x" * 5000, "x" * LONGEST_NAME),
        ("", UNNAMED),
        (" \n", UNNAMED),
        (None, UNNAMED),
        (7, UNNAMED),
        (["Good"], UNNAMED),
        ("Good\ud800", "Good?"),
    ],
)
def test_a_name_is_one_short_line(name: Any, kept: str) -> None:
    assert cleaned(name) == kept


@given(st.text(max_size=300))
def test_whatever_the_name_what_is_shown_is_printable(name: str) -> None:
    text = shown(cleaned(name))
    assert text.isprintable()
    assert text.strip()
    assert "\n" not in text
