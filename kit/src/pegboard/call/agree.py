"""Step 3: one request, one meaning. What the edge saw and what runs here must be the same call.

The body must be one JSON object without duplicate keys, and the routing headers, when they came, must say what
the body says, whatever protocol version the request claims (MCP 2026-07-28, Streamable HTTP: Standard Headers).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pegboard.core.refusal import Refusal

METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


class _DuplicateKeyError(ValueError):
    pass


def disagreement(headers: Mapping[str, list[str]], body: bytes) -> str:
    """What is ambiguous about a POST, as a reason word; empty when nothing is.

    A body that is not JSON at all is left to the SDK, whose answer to it is standard.
    """
    try:
        message = json.loads(body, object_pairs_hook=_unique)
    except _DuplicateKeyError:
        return "duplicate_keys"
    except (ValueError, RecursionError):
        return ""
    if not isinstance(message, dict):
        return "not_one_message"
    return _header_disagreement(headers, message)


def refuse_ambiguous(reason: str) -> Refusal:
    """The refusal of a request that could be read in two ways."""
    return Refusal(
        code="ambiguous_request",
        message=f"The request can be read in more than one way ({reason}), so it was not run.",
        layer="server",
        reason=reason,
        what_to_do="Send one JSON-RPC object with unique keys, and Mcp-Method and Mcp-Name equal to its body.",
    )


def _header_disagreement(headers: Mapping[str, list[str]], message: dict[str, Any]) -> str:
    method = message.get("method")
    params = message.get("params")
    named = params.get(_NAMED_BY.get(str(method), "")) if isinstance(params, dict) else None
    for header, said in ((METHOD_HEADER, method), (NAME_HEADER, named)):
        values = headers.get(header, [])
        if values and values != [said]:
            return "header_mismatch"
    return ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found
