"""A server that pays, wipes and drops, and an agent that drives the protocol by hand, to say what it likes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pegboard import Preview, Server, authorize_tool, confirm, requires_approval
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub

MANIFEST = """
name = "bank"
entry = "bank:server"
description = "Attacked"
owner = "platform"
support_channel = "#bank"

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli", "ide"]
"""

MODERN = "2026-07-28"
EVERYTHING: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}
YES = {"approval": {"action": "accept", "content": {"confirm": True}}}
OPENED = {"approval": {"action": "accept"}}


@dataclass
class Bank:
    """A server, its hub, what its tools did, and what belongs to somebody else by now."""

    hub: InMemoryHub
    ran: list[Any] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


def opened(tmp_path: Path) -> Bank:
    """A bank whose project is written to a folder."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "pegboard.toml").write_text(MANIFEST)
    (tmp_path / "policies" / "granted.cedar").write_text("permit (principal, action, resource);")
    few = (
        '@arguments("tables") permit (principal, action == Action::"list", resource);\n'
        'permit (principal, action == Action::"call", resource) when { context.args.tables.contains("scratch") };'
    )
    (tmp_path / "policies" / "few.cedar").write_text(few)
    server, ran = Server(), list[Any]()

    @server.tool()
    @authorize_tool(policy="granted")
    @requires_approval(by="owner", preview=lambda amount, note: Preview(what=f"pays {amount}: {note}"[:500]))
    async def pay(amount: Any, note: str = "") -> str:
        """Pay."""
        ran.append(amount)
        return f"paid {amount}"

    @server.tool()
    @authorize_tool(policy="granted")
    @confirm("Wipe {table}?")
    async def wipe(table: str) -> str:
        """Wipe."""
        ran.append(table)
        return f"wiped {table}"

    @server.tool()
    @authorize_tool(policy="few")
    @requires_approval(each="tables")
    async def drop(tables: list[str]) -> str:
        """Drop."""
        ran.append(tables)
        return "dropped"

    taken: list[str] = []

    @server.tool()
    @authorize_tool(policy="granted")
    @requires_approval(by="owner", when=lambda name: name in taken)
    @confirm("Take {name}?", preview=lambda name: f"{len(taken)} are taken")
    async def take(name: str) -> str:
        """Take what is nobody's; what is somebody's needs the owner's yes."""
        ran.append(name)
        return f"took {name}"

    hub = InMemoryHub(tmp_path, server)
    hub.approvals.longest_wait_s = 0.05
    return Bank(hub, ran, taken)


class Agent:
    """A client of the newer era that says what it likes."""

    def __init__(self, http: httpx2.AsyncClient, path: str, can: dict[str, Any]) -> None:
        self._http = http
        self._path = path
        self._can = can

    async def call(self, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The result of a call, or the error in its place."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": self._can,
        }
        params = {"name": tool, "arguments": arguments, "_meta": meta, **more}
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": "tools/call",
            "mcp-name": tool,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = _message(await self._http.post(self._path, json=body, headers=headers))
        return answer.get("result", answer)


def _message(response: httpx2.Response) -> dict[str, Any]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    message: dict[str, Any] = json.loads(lines[-1] if lines else response.text)
    return message


@asynccontextmanager
async def agent(
    bank: Bank, person: str = "ana", can: dict[str, Any] = EVERYTHING, surface: str = "cli", **claims: Any
) -> AsyncIterator[Agent]:
    async with bank.hub.http(bank.hub.headers(person, ["ads-eng"], surface, **claims)) as http:
        yield Agent(http, bank.hub.name.path, can)


def code(result: dict[str, Any]) -> str:
    told = result.get("_meta", {}).get(META_KEY)
    return told["code"] if told else ""


def refused(answer: dict[str, Any]) -> bool:
    """Whether the SDK took the state for none of ours."""
    return answer.get("error", {}).get("data") == {"reason": "invalid_request_state"}
