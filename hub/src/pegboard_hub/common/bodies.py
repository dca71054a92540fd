"""Reading what others answer, no further than one means to."""

from __future__ import annotations

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
