"""Where the protocol says how a server must refuse, the kit refuses so."""

from __future__ import annotations

import pytest
from mcp_types import CallToolResult

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


async def test_an_origin_that_is_no_text_is_refused_and_recorded_as_any_other(hub: InMemoryHub) -> None:
    headers = {**hub.headers("ana", ["ads-eng"]), **MODERN, "mcp-method": "tools/list"}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()] + [(b"origin", b"http://\xff\xfe")]
    async with hub.http() as http:
        response = await http.post(hub.name.path, content=b"{}", headers=raw)
    assert response.status_code == 403
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.detail == r"origin http://\udcff\udcfe"


async def test_a_refusal_repeats_no_more_of_a_name_than_any_tool_has(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        answer = await client.call_tool("x" * 100_000, {})
    assert isinstance(answer, CallToolResult)
    assert answer.is_error
    assert len(answer.model_dump_json()) < 2_000


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
