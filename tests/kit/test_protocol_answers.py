"""Where the protocol says how a server must refuse, the kit refuses so."""

from __future__ import annotations

import pytest

from pegboard.core.record import Denial
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
MODERN = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
LISTING = {"jsonrpc": "2.0", "id": "mine", "method": "tools/list", "params": {"_meta": META}}


@pytest.mark.parametrize(
    "origin", ["http://evil.example.com", "null", "https://pegboard.test", "http://pegboard.test:1"]
)
async def test_web_page_of_another_origin_is_refused_with_403_and_recorded(hub: InMemoryHub, origin: str) -> None:
    headers = hub.headers("ana", ["ads-eng"]) | MODERN | {"mcp-method": "tools/list", "origin": origin}
    async with hub.http(headers) as http:
        response = await http.post(hub.name.path, json=LISTING)
    assert response.status_code == 403
    assert response.json()["error"]["data"]["reason"] == "foreign_origin"
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert (record.reason, record.detail) == ("foreign_origin", f"origin {origin}")


async def test_page_of_our_own_origin_is_served(hub: InMemoryHub) -> None:
    headers = hub.headers("ana", ["ads-eng"]) | MODERN | {"mcp-method": "tools/list", "origin": hub.public_url}
    async with hub.http(headers) as http:
        response = await http.post(hub.name.path, json=LISTING)
    assert response.status_code == 200
    assert hub.records == []


async def test_header_mismatch_has_the_protocols_code_and_the_requests_id(hub: InMemoryHub) -> None:
    headers = hub.headers("ana", ["ads-eng"]) | MODERN | {"mcp-method": "tools/call"}
    async with hub.http(headers) as http:
        response = await http.post(hub.name.path, json=LISTING)
    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["id"]) == (-32020, "mine")
