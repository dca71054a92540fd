"""What pods say of themselves at their probe port: how their smoke calls went, and how many calls they answer now."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

import httpx2

from pegboard.core.readiness import READY_PATH, SMOKE
from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.edge.sidecar import CALLS_PATH
from pegboard_hub.runtime.kubernetes.pod import PROBE_PORT

ANSWER_S: Final = 2.0
AT_ONCE: Final = 16
MOST_BYTES: Final = 64 * 1024


class Said(NamedTuple):
    """A pod's word on itself; it decides nothing.

    Attributes:
        in_flight: calls that it answers now.
        smoke: how its smoke calls went, by tool.
    """

    in_flight: int
    smoke: dict[str, str]


Ask = Callable[[str], Awaitable[Said | None]]
"""Asks the pod at an address; None where it does not say."""


class PodAsker:
    """Asks over HTTP. One client serves all pods."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        way = transport or httpx2.AsyncHTTPTransport(verify=NO_TLS, limits=httpx2.Limits(max_keepalive_connections=0))
        self._client = httpx2.AsyncClient(transport=way, timeout=ANSWER_S, trust_env=False, follow_redirects=False)

    async def __call__(self, address: str) -> Said | None:
        """What the pod at `address` says."""
        try:
            found = ipaddress.ip_address(address)
            host = f"[{found}]" if found.version == 6 else str(found)
            ready = await self._json(f"http://{host}:{PROBE_PORT}{READY_PATH}")
            calls = await self._json(f"http://{host}:{PROBE_PORT}{CALLS_PATH}")
            said = ready.get(SMOKE) or {}
            smoke = {str(tool)[:64]: str(word)[:300] for tool, word in list(said.items())[:64]}
            return Said(max(0, int(calls.get("calls") or 0)), smoke)
        except (httpx2.HTTPError, OSError, ValueError, TypeError, AttributeError):
            return None

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()

    async def _json(self, url: str) -> dict[str, Any]:
        """An answer, of which no more is read than it may have."""
        async with self._client.stream("GET", url) as answer:
            content = b""
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise ValueError("it says too much")
        found = httpx2.Response(200, content=content).json()
        if not isinstance(found, dict):
            raise ValueError("it says something else")
        return found


async def ask_all(ask: Ask, pods: Iterable[tuple[str, str]]) -> dict[str, Said]:
    """What pods say, by name; those that say nothing are left out.

    Args:
        ask: asks one.
        pods: names and addresses.
    """
    few = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, address: str) -> tuple[str, Said | None]:
        async with few:
            return name, await ask(address)

    found = await asyncio.gather(*(one(name, address) for name, address in pods))
    return {name: said for name, said in found if said is not None}
