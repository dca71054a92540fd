"""Pegboard's kit: what an author imports to publish a governed MCP server.

    from pegboard import Server, authorize_tool, saves

The names are loaded on first use, so that importing `pegboard.core` (as the hub does) costs no MCP SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server.mcpserver.exceptions import ToolError

    from pegboard.call.context import current_caller
    from pegboard.core.approval import Block, Preview
    from pegboard.declare import authorize_tool, confirm, requires_approval, saves
    from pegboard.limits import ConcurrencyLimit
    from pegboard.server import Server

__all__ = [
    "Block",
    "ConcurrencyLimit",
    "Preview",
    "Server",
    "ToolError",
    "authorize_tool",
    "confirm",
    "current_caller",
    "requires_approval",
    "saves",
]

_HOMES = {
    "Block": "pegboard.core.approval",
    "ConcurrencyLimit": "pegboard.limits",
    "Preview": "pegboard.core.approval",
    "Server": "pegboard.server",
    "ToolError": "mcp.server.mcpserver.exceptions",
    "authorize_tool": "pegboard.declare",
    "confirm": "pegboard.declare",
    "current_caller": "pegboard.call.context",
    "requires_approval": "pegboard.declare",
    "saves": "pegboard.declare",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pegboard' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
