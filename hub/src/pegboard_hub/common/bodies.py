"""Reading what others answer, no further than one means to."""

from __future__ import annotations

import json
from typing import Any

import httpx2


async def read_bounded(response: httpx2.Response, most: int) -> bytes | None:
    """The body; None of one of more than `most` bytes, or packed, since that may unfold without limit."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return None
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def json_rpc_message(text: str, content_type: str) -> dict[str, Any]:
    """The JSON-RPC message of a JSON body, or the last one of an event stream; empty where none can be read."""
    if content_type.startswith("text/event-stream"):
        lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
        text = next((line for line in reversed(lines) if line), "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
