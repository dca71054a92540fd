"""The way to the hub's internal door."""

from __future__ import annotations

from pathlib import Path

import httpx2

ANSWER_S = 10.0
"""How long the hub may take to answer, in seconds."""

CONNECTIONS = 100
"""Open at once at most, by one client."""


def hub_client(hub_socket: Path, channel_token: str) -> httpx2.AsyncClient:
    """A client of the hub's internal door; nothing is sent yet.

    Args:
        hub_socket: where the hub listens.
        channel_token: says which server speaks.
    """
    limits = httpx2.Limits(max_connections=CONNECTIONS)
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(hub_socket), limits=limits),
        base_url="http://hub",
        headers={"authorization": f"Bearer {channel_token}"},
        timeout=ANSWER_S,
    )
