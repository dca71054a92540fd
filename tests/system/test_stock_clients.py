"""Clients that we did not write reach a governed server through the real edge, with nothing but a token."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from tests.system.instance import Instance
from tests.tools.node import NodeTools, provide

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("instance")]

SERVER = "prod/presto"
COUNT_FLIGHTS = "SELECT count(*) AS flights FROM flights"
FLIGHTS = 336_776
ADS_TOOL = "get_revenue_metrics"
OPEN_TOOLS = {"run_query", "list_tables", "describe_table"}

PYTHON_MODES = {
    "modern": ("2026-07-28", "2026-07-28"),
    "auto": ("auto", "2026-07-28"),
    "legacy": ("legacy", "2025-11-25"),
}
"""What the client is told, and the protocol version that it must end up with."""

INSPECTOR_ERAS = {"modern": True, "auto": True, "legacy": False}
"""What Inspector is told, and whether it must end up with the modern protocol."""
INSPECTOR_TIMEOUT_S = 180
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
"""A key of every modern result's `_meta`, and of no legacy one's."""


@asynccontextmanager
async def python_client(pegboard: Instance, person: str, mode: str) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {pegboard.token(person, SERVER)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{pegboard.public_url}/mcp/{SERVER}", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@pytest.mark.parametrize("era", PYTHON_MODES)
async def test_python_sdk_lists_what_the_person_may_use_and_calls_it(pegboard: Instance, era: str) -> None:
    mode, version = PYTHON_MODES[era]
    async with python_client(pegboard, "fay", mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("run_query", {"sql": COUNT_FLIGHTS})
        negotiated = client.protocol_version
    assert names >= OPEN_TOOLS
    assert ADS_TOOL not in names
    assert negotiated == version
    assert isinstance(answer, CallToolResult)
    assert not answer.is_error
    assert answer.structured_content is not None
    assert answer.structured_content["rows"] == [[FLIGHTS]]


@pytest.mark.parametrize("era", PYTHON_MODES)
async def test_python_sdk_gets_one_answer_for_a_hidden_and_for_an_unknown_tool(pegboard: Instance, era: str) -> None:
    async with python_client(pegboard, "fay", PYTHON_MODES[era][0]) as client:
        hidden = await client.call_tool(ADS_TOOL, {})
        unknown = await client.call_tool("get_no_such_thing", {})
    assert isinstance(hidden, CallToolResult)
    assert isinstance(unknown, CallToolResult)
    assert hidden.is_error
    assert unknown.is_error
    assert _text(hidden).replace(ADS_TOOL, "TOOL") == _text(unknown).replace("get_no_such_thing", "TOOL")


@pytest.fixture(scope="session")
def tools() -> NodeTools:
    return provide()


class Inspector:
    """MCP Inspector's command, as one person, in one era."""

    def __init__(self, tools: NodeTools, pegboard: Instance, home: Path) -> None:
        self._tools = tools
        self._pegboard = pegboard
        self._home = home

    async def run(self, person: str, era: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit status, and the JSON document it printed: the result, or the error."""
        token = self._pegboard.token(person, SERVER)
        connection = ["--transport", "http", "--protocol-era", era, "--header", f"Authorization: Bearer {token}"]
        # Without --stored-auth-only a refusal would open a browser for a sign-in.
        manner = ["--format", "json", "--quiet", "--stored-auth-only"]
        url = f"{self._pegboard.public_url}/mcp/{SERVER}"
        command = self._tools.command("mcp-inspector", "--cli", url, *connection, *manner, *arguments)
        with anyio.fail_after(INSPECTOR_TIMEOUT_S):
            done = await anyio.run_process(command, env=self._tools.environment(self._home), check=False)
        return done.returncode, json.loads(done.stdout or done.stderr)


@pytest.fixture
def inspector(tools: NodeTools, pegboard: Instance, tmp_path: Path) -> Inspector:
    return Inspector(tools, pegboard, tmp_path)


@pytest.mark.parametrize("era", INSPECTOR_ERAS)
async def test_inspector_lists_what_the_person_may_use(inspector: Inspector, era: str) -> None:
    status, document = await inspector.run("fay", era, "--method", "tools/list")
    names = {tool["name"] for tool in document["result"]["tools"]}
    assert status == 0
    assert names >= OPEN_TOOLS
    assert ADS_TOOL not in names


@pytest.mark.parametrize("era", INSPECTOR_ERAS)
async def test_inspector_calls_a_tool(inspector: Inspector, era: str) -> None:
    arguments = json.dumps({"sql": COUNT_FLIGHTS})
    call = ["--method", "tools/call", "--tool-name", "run_query", "--tool-args-json", arguments]
    status, document = await inspector.run("ana", era, *call)
    assert status == 0
    assert document["result"]["structuredContent"]["rows"] == [[FLIGHTS]]
    assert (SERVER_INFO in document["result"].get("_meta", {})) is INSPECTOR_ERAS[era]


@pytest.mark.parametrize("era", INSPECTOR_ERAS)
async def test_inspector_gets_nothing_for_a_person_without_the_group(inspector: Inspector, era: str) -> None:
    status, document = await inspector.run("gus", era, "--method", "tools/list")
    assert (status, document["error"]["code"]) == (3, "auth_required")


def _text(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if part.type == "text")
