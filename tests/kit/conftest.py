"""A small server project for the kit's tests: one open tool, one for ads-eng alone, one that reads an argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult

from pegboard import Server, ToolError, authorize_tool, current_caller, saves
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub

MANIFEST = """
name = "desk"
entry = "desk:server"
description = "Tests of the kit"
owner = "platform"
support_channel = "#desk"

[requests]
business_groups = ["ads-eng", "finance"]
surfaces = ["cli", "chat"]
"""

POLICIES = {
    "granted": "permit (principal, action, resource);",
    "ads-revenue": 'permit (principal in Group::"ads-eng", action, resource);',
    "small-orders": (
        '@arguments("amount") permit (principal, action == Action::"list", resource);\n'
        'permit (principal, action == Action::"call", resource) when { context.args.amount <= 10 };'
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    (folder / "policies").mkdir(parents=True)
    (folder / "pegboard.toml").write_text(MANIFEST)
    for name, text in POLICIES.items():
        (folder / "policies" / f"{name}.cedar").write_text(text)
    return folder


@pytest.fixture
def server() -> Server:
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    @saves(minutes=6)
    async def echo(text: str) -> str:
        """Say it back."""
        return text

    @server.tool()
    @authorize_tool(policy="ads-revenue")
    def revenue(day: str = "today") -> dict[str, Any]:
        """Revenue of a day."""
        return {"day": day}

    @server.tool()
    @authorize_tool(policy="small-orders")
    async def order(amount: int) -> str:
        """Order something."""
        return f"ordered {amount}"

    @server.tool()
    @authorize_tool(policy="granted")
    async def whoami() -> str:
        """Name the caller."""
        return current_caller().sub

    @server.tool()
    @authorize_tool(policy="granted")
    @saves(minutes=5)
    async def fail(how: str) -> str:
        """Fail in a chosen way."""
        if how == "crash":
            raise RuntimeError("secret inner detail")
        raise ToolError("no such table")

    @server.tool(structured_output=False)
    @authorize_tool(policy="granted")
    async def pretend() -> CallToolResult:
        """Pretend that the platform refused."""
        return CallToolResult(content=[], is_error=True, _meta={META_KEY: {"layer": "edge"}, "mine": 1})

    return server


@pytest.fixture
def hub(project: Path, server: Server) -> InMemoryHub:
    return InMemoryHub(project, server)
