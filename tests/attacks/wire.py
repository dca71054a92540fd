"""Requests as bytes, so that no client library tidies up what an attacker would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.system.instance import Instance

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "attacker", "version": "1"},
}
PRESTO = "/mcp/prod/presto"
SILENT_S = 6.0
"""Seconds after which an answer is none, also on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """A raw answer: its status (0 when the connection just ended) and everything that came."""

    status: int
    text: str

    @property
    def reason(self) -> str:
        """The refusal's reason; empty when it was none."""
        return self.text.partition('"reason":"')[2].partition('"')[0]


def message(method: str = "tools/list", **params: Any) -> bytes:
    """A modern JSON-RPC request."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}).encode()


def head(pegboard: Instance, token: str | None, line: str = f"POST {PRESTO} HTTP/1.1") -> list[str]:
    """Request line and headers of a modern `tools/list`, without what frames the body."""
    lines = [line, f"Host: {pegboard.public_url.removeprefix('http://')}"]
    lines += [f"{name}: {value}" for name, value in ACCEPT.items()]
    lines += [f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/list"]
    return lines + ([f"Authorization: Bearer {token}"] if token else [])


def sized(body: bytes) -> list[str]:
    """The headers that frame `body`, on a connection that ends with it."""
    return [f"Content-Length: {len(body)}", "Connection: close"]


def send(pegboard: Instance, lines: list[str], body: bytes = b"", answers: int = 1) -> Answer:
    """Send exactly these bytes and read so many answers; fewer when the edge closes, or is silent for long."""
    port = int(pegboard.public_url.rpartition(":")[2])
    found = b""
    with socket.create_connection(("127.0.0.1", port), SILENT_S) as connection:
        try:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            while not _holds(found, answers) and (part := connection.recv(65536)):
                found += part
        except OSError:
            pass  # refused while we were still sending, or kept open: what came counts
    status = found.split(b" ", 2)[1:2]
    return Answer(int(status[0]) if status and status[0].isdigit() else 0, found.decode("utf-8", "replace"))


def _holds(found: bytes, answers: int) -> bool:
    """Whether so many whole answers came, each with its length; one without is read to the connection's end."""
    for _ in range(answers):
        head_, end, found = found.partition(b"\r\n\r\n")
        length = next((x[15:] for x in head_.lower().split(b"\r\n") if x.startswith(b"content-length:")), None)
        if not end or length is None or len(found) < int(length):
            return False
        found = found[int(length) :]
    return True


def tools_in(text: str) -> set[str]:
    """Names of presto's tools that an answer tells of."""
    return {
        name for name in ("run_query", "list_tables", "describe_table", "get_revenue_metrics") if f'"{name}"' in text
    }


def modern(
    pegboard: Instance, token: str, method: str, params: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """One modern request to presto with its routing headers."""
    params = {"_meta": META, **(params or {})}
    sent = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": method, "authorization": f"Bearer {token}"}
    if isinstance(params.get("name"), str) and params["name"].isascii() and params["name"].isprintable():
        sent["mcp-name"] = params["name"]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(f"{pegboard.public_url}{PRESTO}", json=body, headers=sent | headers, timeout=60)


def legacy(
    pegboard: Instance,
    token: str,
    body: dict[str, Any] | str,
    session: str = "",
    path: str = PRESTO,
    verb: str = "POST",
) -> httpx2.Response:
    """One legacy message, in a session where one is given."""
    sent = {**ACCEPT, "mcp-protocol-version": LEGACY, "authorization": f"Bearer {token}"}
    if session:
        sent["mcp-session-id"] = session
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx2.request(verb, f"{pegboard.public_url}{path}", content=content, headers=sent, timeout=60)


def initialize(pegboard: Instance, token: str) -> str:
    """Open a legacy session and give back its id."""
    client = {"name": "attacker", "version": "1"}
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}
    opened = legacy(pegboard, token, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    assert opened.status_code == 200, opened.text
    return str(opened.headers["mcp-session-id"])
