"""Clients of the official SDKs sign in by their own OAuth flow: once, and silently for every further server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp_types import CallToolResult
from pydantic import AnyUrl

from tests.system.clients.listener import Listener, listening
from tests.system.clients.person import CONSENT, SIGN_IN, Person, person
from tests.system.instance import Instance
from tests.tools.node import provide

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("instance")]

FLIGHTS = 336_776
CALLS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("prod/presto", "run_query", {"sql": "SELECT count(*) AS flights FROM flights"}, [[FLIGHTS]]),
    ("dev/scratch", "echo", {"text": "hello"}, "hello"),
]
"""Servers in the order in which they are connected, with a call and what comes of it."""

PROMPTS = [[SIGN_IN, CONSENT], []]
"""What the person is asked for each: the second server is silent."""

DRIVER = Path(__file__).parent / "typescript.mjs"
TIMEOUT_S = 300


class Memory:
    """What a client keeps of one server."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class PythonClient:
    """The Python SDK's client, whose person is `ana`."""

    def __init__(self, ana: Person, listener: Listener) -> None:
        self._ana = ana
        self._listener = listener
        self.asked: list[str] = []

    async def call(self, url: str, tool: str, arguments: Mapping[str, Any], mode: str) -> tuple[set[str], Any]:
        """Connect by the SDK's own flow, list, and call; gives the tools' names and the call's result."""
        name = f"Python SDK, {mode}"  # another name is other software, which is asked about anew
        metadata = OAuthClientMetadata(client_name=name, redirect_uris=[AnyUrl(self._listener.redirect_uri)])
        provider = OAuthClientProvider(url, metadata, Memory(), self._open, self._answer)
        async with (
            httpx2.AsyncClient(auth=provider, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            names = {each.name for each in (await client.list_tools()).tools}
            result = await client.call_tool(tool, dict(arguments))
        assert isinstance(result, CallToolResult)
        return names, result.structured_content

    async def _open(self, authorization_url: str) -> None:
        self.asked = await self._ana.follow(authorization_url)

    async def _answer(self) -> AuthorizationCodeResult:
        query = await self._listener.answers.get()
        return AuthorizationCodeResult(code=query["code"], state=query.get("state"), iss=query.get("iss"))


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_python_sdk_signs_in_once_and_connects_the_second_server_silently(
    pegboard: Instance, mode: str
) -> None:
    prompts = []
    with anyio.fail_after(TIMEOUT_S):
        async with person(pegboard.public_url) as ana, listening() as listener:
            client = PythonClient(ana, listener)
            for server, tool, arguments, expected in CALLS:
                names, result = await client.call(f"{pegboard.public_url}/mcp/{server}", tool, arguments, mode)
                assert tool in names
                assert outcome(result) == expected
                prompts.append(client.asked)
    assert prompts == PROMPTS


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_typescript_sdk_signs_in_once_and_connects_the_second_server_silently(
    pegboard: Instance, tmp_path: Path, version: str
) -> None:
    tools = provide()
    calls = [
        {"url": f"{pegboard.public_url}/mcp/{server}", "tool": tool, "arguments": arguments}
        for server, tool, arguments, _ in CALLS
    ]
    command = [str(tools.node), str(DRIVER), str(tools.folder), version, json.dumps(calls)]
    prompts, found, step, places = [], [], "", [""]
    with anyio.move_on_after(TIMEOUT_S) as scope:
        async with (
            person(pegboard.public_url) as ana,
            await anyio.open_process(command, env=tools.environment(tmp_path), stderr=None) as process,
        ):
            assert process.stdout is not None
            async for line in lines(process.stdout):
                document = json.loads(line)
                places = [page.url for page in ana.context.pages]
                if "open" in document:
                    prompts.append(await ana.follow(document["open"]))
                elif "step" in document:
                    step = document["step"]
                else:
                    found.append(document)
            assert await process.wait() == 0
    assert not scope.cancelled_caught, f"waited for {step}, after {prompts}; the browser was at {places}"
    for (_, tool, _, expected), document in zip(CALLS, found, strict=True):
        assert tool in document["tools"]
        assert outcome(document["result"]["structuredContent"]) == expected
    assert prompts == PROMPTS


def outcome(structured: Any) -> Any:
    return structured["rows"] if "rows" in structured else structured["result"]


async def lines(stream: Any) -> Any:
    """The lines that a process writes."""
    rest = b""
    async for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
