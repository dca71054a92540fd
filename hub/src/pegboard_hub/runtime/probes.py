"""Asking a process whether it works: over its Unix socket, or by what it leaves."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2

from pegboard_hub.common.no_tls import NO_TLS

PROBE_TIMEOUT_S = 2.0

TOUCHED_S = 15.0
"""Seconds for which a file that a process touches every few seconds says that it works."""


async def calls_under_way(socket: Path) -> int:
    """How many calls a server answers right now.

    None where nobody is there or nothing is said of it: there is nothing to wait for then. One where no answer comes
    in time: calls are what keeps a server that busy.
    """
    transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=NO_TLS)
    async with httpx2.AsyncClient(transport=transport, timeout=PROBE_TIMEOUT_S) as client:
        try:
            return int((await client.get("http://localhost/healthz/calls")).json()["calls"])
        except httpx2.TimeoutException:
            return 1
        except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError):
            return 0


def answers_ok(socket: Path, path: str = "/healthz") -> Callable[[], Awaitable[bool]]:
    """A question that is true when GET `path` on `socket` is answered with 200 and `{"status": "ok"}`.

    Each asks on a connection of its own: one that was kept would answer on when the socket that callers need is gone.
    """
    transport = httpx2.AsyncHTTPTransport(
        uds=str(socket), verify=NO_TLS, limits=httpx2.Limits(max_keepalive_connections=0)
    )
    client = httpx2.AsyncClient(transport=transport, timeout=PROBE_TIMEOUT_S)

    async def ask() -> bool:
        try:
            response = await client.get(f"http://localhost{path}")
            return response.status_code == httpx2.codes.OK and response.json() == {"status": "ok"}
        except (httpx2.HTTPError, OSError, ValueError):
            return False

    return ask


def touched_lately(path: Path) -> Callable[[], Awaitable[bool]]:
    """A question that is true while `path` was touched within the last seconds."""

    async def ask() -> bool:
        return _age(path) < TOUCHED_S

    return ask


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf
