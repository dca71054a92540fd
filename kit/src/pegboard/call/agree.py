"""Step 3: one request, one meaning. What the edge saw and what runs here must be the same call.

The body must be one JSON object of Unicode text without duplicate keys, and the routing headers, when they came, must
say what the body says, whatever version the request claims (MCP 2026-07-28, Streamable HTTP: Standard Headers).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp.shared.inbound import decode_header_value

from pegboard.core.refusal import Refusal

METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


class _DuplicateKeyError(ValueError):
    pass


class Disagreement(NamedTuple):
    """What is ambiguous about a request, and the JSON-RPC id to answer with; None where no one id can be read."""

    reason: str
    message_id: str | int | None = None


def disagreement(headers: Mapping[str, list[str]], body: bytes) -> Disagreement | None:
    """What is ambiguous about a POST; None when nothing is.

    A body that is not JSON at all is left to the SDK, whose answer to it is standard. JSON comes in UTF-8 and without
    a byte order mark (RFC 8259 §8.1): parsers that guess another encoding read what the edge has not read.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Disagreement("not_unicode")
    if text.startswith("\ufeff") or "\0" in text:
        return Disagreement("not_unicode")
    try:
        message = json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKeyError:
        return Disagreement("duplicate_keys")
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return Disagreement("not_one_message")
    if b"\\u" in body and not _is_unicode(message):
        return Disagreement("not_unicode")
    if _headers_agree(headers, message):
        return None
    message_id = message.get("id")
    return Disagreement("header_mismatch", message_id if isinstance(message_id, str | int) else None)


def refuse_ambiguous(reason: str) -> Refusal:
    """The refusal of a request that could be read in two ways."""
    return Refusal(
        code="ambiguous_request",
        message=f"The request can be read in more than one way ({reason}), so it was not run.",
        layer="server",
        reason=reason,
        what_to_do="Send one JSON-RPC object, Unicode, unique keys; let Mcp-Method and Mcp-Name say what it says.",
    )


def _headers_agree(headers: Mapping[str, list[str]], message: dict[str, Any]) -> bool:
    method = message.get("method")
    params = message.get("params")
    named = params.get(_NAMED_BY.get(str(method), "")) if isinstance(params, dict) else None
    for header, said in ((METHOD_HEADER, method), (NAME_HEADER, named)):
        values = headers.get(header, [])
        if values and [decode_header_value(value) for value in values] != [said]:
            return False
    return True


def _is_unicode(message: dict[str, Any]) -> bool:
    """Whether every text is Unicode. Parsers differ over half a surrogate pair, made by an escape (RFC 8259 §8.2)."""
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found
