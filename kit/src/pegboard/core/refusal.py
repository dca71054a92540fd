"""The one shape in which every layer says no."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Layer = Literal["edge", "server", "hub"]

META_KEY = "pegboard.dev/refusal"
"""Key under `_meta` (MCP) that carries a refusal beside a tool's error text."""

JSONRPC_CODE = -32003
"""JSON-RPC error code of a refusal on an MCP endpoint; the refusal itself is the error's `data`."""

PROTOCOL_CODES = {"header_mismatch": -32020}
"""Reasons for which the protocol has a code of its own (MCP 2026-07-28, Streamable HTTP: Server Validation)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call was refused, by which layer, and what the caller can do. Holds nothing internal."""

    code: str
    message: str
    layer: Layer
    reason: str
    what_to_do: str
    request_id: str = ""

    def for_request(self, request_id: str) -> Refusal:
        """The same refusal with the id of the request it answers."""
        return replace(self, request_id=request_id)

    def as_json(self) -> dict[str, str]:
        """The shape of design §4, Refusals."""
        return asdict(self)

    def as_jsonrpc(self, request_id: Any = None) -> dict[str, Any]:
        """The refusal as a JSON-RPC error, for MCP endpoints."""
        code = PROTOCOL_CODES.get(self.reason, JSONRPC_CODE)
        error = {"code": code, "message": self.message, "data": self.as_json()}
        return {"jsonrpc": "2.0", "id": request_id, "error": error}


LONGEST_TOLD = 128
"""Characters of a name of the caller's own that a refusal repeats; no tool's name is as long."""


def tool_unavailable(tool: str, owner: str, support_channel: str) -> Refusal:
    """The one answer for a tool that does not exist and for one that this caller may not use."""
    ask = f"Ask {owner} in {support_channel}"
    tool = tool if len(tool) <= LONGEST_TOLD else f"{tool[:LONGEST_TOLD]}…"
    return Refusal(
        code="tool_unavailable",
        message=f"No tool {tool} here for you: it does not exist or you may not use it. {ask}.",
        layer="server",
        reason="tool_unavailable",
        what_to_do=f"{ask}.",
    )


def stops_unknown(server: str, layer: Layer) -> Refusal:
    """The refusal of a sensitive server that a stop could not have reached: it may have been stopped meanwhile."""
    return Refusal(
        code="unavailable",
        message=f"{server} has sensitive data, and whether it was stopped cannot be known now, so it refuses.",
        layer=layer,
        reason="stops_unknown",
        what_to_do="Ask the platform team to look at the hub; the server goes on by itself once it is back.",
    )


def tool_blocked(tool: str, why: str, ask: str) -> Refusal:
    """The refusal of a pinned tool that is not any more what was pinned (`core.pins`).

    Args:
        tool: its name.
        why: what is otherwise, in words that follow its name.
        ask: whom to ask.
    """
    return Refusal(
        code="tool_blocked",
        message=f"{tool} is blocked: it {why}, and nobody has looked at that yet. {ask}",
        layer="server",
        reason="tool_blocked",
        what_to_do=ask,
    )
