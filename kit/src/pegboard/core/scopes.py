"""What a token may do at all, whoever it stands for: scopes (RFC 6749 §3.3).

A person may let a client look and not act. `tools:read` calls the tools that a server declares read-only; `tools`
calls any. Neither gives more than grants and policies do, and neither hides a tool: a client that needs more is told
which scope to ask for (step-up).
"""

from __future__ import annotations

SCOPE_TOOLS = "tools"
"""Calls any tool that grants and policies let the caller call."""

SCOPE_TOOLS_READ = "tools:read"
"""Lists as `tools` does, and calls what is declared read-only (`ToolAnnotations.read_only_hint`)."""

SCOPE_API = "api"
"""Asks the hub's API."""

SCOPE_SUBMIT = "submit"
"""Submits releases of servers that named the service a publisher, and asks how they go; nothing else of the API."""

SERVER_SCOPES = (SCOPE_TOOLS, SCOPE_TOOLS_READ)
"""The scopes of tokens for servers, the widest first."""

_SERVER_SCOPES = frozenset(SERVER_SCOPES)


def has_scope(scope: str, wanted: str) -> bool:
    """Whether the claim `scope` names `wanted`: whole names between single spaces, and their case counts."""
    return scope == wanted or wanted in scope.split(" ")


def has_server_scope(scope: str) -> bool:
    """Whether the claim `scope` lets a token reach servers."""
    return scope in _SERVER_SCOPES or not _SERVER_SCOPES.isdisjoint(scope.split(" "))


def may_call(scope: str, read_only: bool) -> bool:
    """Whether the claim `scope` lets a token call a tool, which declares to be read-only or does not."""
    return has_scope(scope, SCOPE_TOOLS) or (read_only and has_scope(scope, SCOPE_TOOLS_READ))
