"""Step 4: which tool does a call name? Asked of a token that may only look, before the SDK answers.

What such a token cannot do is told as HTTP 403 (RFC 6750 §3.1), from which a client learns which scope to ask for.
Once the SDK has a call its answer is 200, in either era, so it has to be asked before.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class CalledTool(NamedTuple):
    """A tool's name as the caller wrote it, and the JSON-RPC id to answer with."""

    name: str
    message_id: str | int | None


class Read(NamedTuple):
    """A message's method, and the JSON-RPC id to answer with."""

    method: str
    message_id: str | int | None


def read_message(body: bytes) -> Read | None:
    """What a body asks for, which can be read in one way (`agree`); None if it asks for nothing."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None  # the SDK's to answer
    method, message_id = message.get("method"), message.get("id")
    if not isinstance(method, str):
        return None
    return Read(method, message_id if isinstance(message_id, str | int) else None)


def called_tool(body: bytes) -> CalledTool | None:
    """The tool that a body calls, which can be read in one way (`agree`); None if it calls none."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None  # the SDK's to answer
    if message.get("method") != "tools/call" or not isinstance(params := message.get("params"), dict):
        return None
    name, message_id = params.get("name"), message.get("id")
    if not isinstance(name, str):
        return None
    return CalledTool(name, message_id if isinstance(message_id, str | int) else None)
