"""MCP as bytes: what the story sends, in both protocol eras, including what no honest client would send.

The story speaks for itself instead of using a client library, so that every header and every byte is in its hands.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx2

from pegboard.core.names import ServerName, api_audience
from pegboard.core.refusal import META_KEY
from pegboard_hub.common.bodies import json_rpc_message
from pegboard_hub.identity.demo import DEMO_GRANT

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
Headers = list[tuple[str, str]]
"""Names and values in the order, case and number in which they are sent."""

ACCEPT = "application/json, text/event-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its HTTP status, the edge's request id, and the JSON-RPC message in it, if there was one."""

    status: int
    request_id: str
    message: dict[str, Any]
    headers: httpx2.Headers

    @property
    def result(self) -> dict[str, Any]:
        """The result; empty when there is none."""
        found = self.message.get("result")
        return found if isinstance(found, dict) else {}

    @property
    def refusal(self) -> dict[str, Any] | None:
        """The refusal that any layer put into the answer; None when nothing refused."""
        error = self.message.get("error")
        data = error.get("data") if isinstance(error, dict) else None
        refusal = data if isinstance(data, dict) else (self.result.get("_meta") or {}).get(META_KEY)
        return refusal if isinstance(refusal, dict) and "layer" in refusal else None

    @property
    def text(self) -> str:
        """The text of a tool's result."""
        return "".join(block.get("text", "") for block in self.result.get("content", []))


class Wire:
    """One HTTP client in front of one edge."""

    def __init__(self, http: httpx2.AsyncClient, public_url: str) -> None:
        self.http = http
        self.public_url = public_url

    async def token(
        self, person: str, server: str = "prod/presto", surface: str = "cli", lifetime_s: int | None = None
    ) -> str:
        """A demo person's token for one server, or for the hub's API with `server="api"`."""
        api = api_audience(self.public_url)
        resource = api if server == "api" else ServerName.parse(server).resource_url(self.public_url)
        form = {"grant_type": DEMO_GRANT, "person": person, "surface": surface, "resource": resource}
        if lifetime_s is not None:
            form["lifetime"] = str(lifetime_s)
        response = await self.http.post(f"{self.public_url}/oauth/token", data=form)
        response.raise_for_status()
        return str(response.json()["access_token"])

    async def call(self, token: str, tool: str, arguments: dict[str, Any], server: str = "prod/presto") -> Reply:
        """Call a tool, in the modern era."""
        return await self.modern(token, "tools/call", {"name": tool, "arguments": arguments}, server)

    async def modern(
        self,
        token: str,
        method: str,
        params: dict[str, Any] | None = None,
        server: str = "prod/presto",
        headers: Headers | None = None,
    ) -> Reply:
        """One modern request: self-contained, with its routing headers unless `headers` has them."""
        params = dict(params or {})
        sent = [("mcp-protocol-version", MODERN), ("mcp-method", method), *(headers or [])]
        if "name" in params and "mcp-name" not in {name.lower() for name, _ in sent}:
            sent.append(("mcp-name", str(params["name"])))
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "pegboard-story", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.post(ServerName.parse(server).path, json.dumps(message), token, sent)

    async def initialize(self, token: str, server: str = "prod/presto", headers: Headers | None = None) -> Reply:
        """Open a legacy session, which is the first thing a client of that era does."""
        client = {"name": "pegboard-story", "version": "1"}
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}
        return await self.legacy(token, "initialize", params, server, headers=headers)

    async def legacy(
        self,
        token: str,
        method: str,
        params: dict[str, Any],
        server: str = "prod/presto",
        session: str = "",
        headers: Headers | None = None,
    ) -> Reply:
        """One legacy request, in `session` when there is one."""
        sent = [
            ("mcp-protocol-version", LEGACY),
            *([("mcp-session-id", session)] if session else []),
            *(headers or []),
        ]
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.post(ServerName.parse(server).path, json.dumps(message), token, sent)

    async def post(self, path: str, body: str, token: str, headers: Headers) -> Reply:
        """Send exactly this body and these headers to exactly this path."""
        sent = [("accept", ACCEPT), ("content-type", "application/json"), *headers]
        if token:
            sent.append(("authorization", f"Bearer {token}"))
        # raw_path keeps "..", "%2f" and "//" as they are; a client library would tidy them away.
        url = httpx2.URL(self.public_url).copy_with(raw_path=path.encode())
        response = await self.http.post(url, content=body.encode(), headers=sent)
        message = json_rpc_message(response.text, response.headers.get("content-type", ""))
        return Reply(response.status_code, response.headers.get("x-request-id", ""), message, response.headers)

    async def api(self, token: str, path: str, **params: str) -> Any:
        """A document of the hub's API."""
        response = await self.http.get(
            f"{self.public_url}/api/v1/{path}", params=params, headers={"authorization": f"Bearer {token}"}
        )
        response.raise_for_status()
        return response.json()
