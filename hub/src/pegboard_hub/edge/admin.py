"""Asking Envoy how it is, over its administration socket."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode

import httpx2

from pegboard_hub.common.no_tls import NO_TLS

ANSWER_S = 2.0
"""How long Envoy may take for an answer, in seconds."""

STATISTICS_S = 15.0
"""How long it may take for its statistics, in seconds; with ten thousand busy servers it takes some two."""

_VERSION = re.compile(r'^(?P<name>[\w.]+)\.version_text: "(?P<version>\w*)"$', re.MULTILINE)


class EnvoyAdmin:
    """Envoy's administration. One client is kept for the life of the edge."""

    def __init__(self, socket: Path) -> None:
        transport = httpx2.AsyncHTTPTransport(uds=str(socket), verify=NO_TLS)
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://envoy")

    async def ready(self) -> bool:
        """True when Envoy takes calls.

        Envoy calls itself ready also when it could not bind its listener, so the listener is asked for.
        """
        if await self._get("/ready") is None:
            return False
        active = await self._get("/stats?filter=total_listeners_active") or ""
        return re.search(r"total_listeners_active: [1-9]", active) is not None

    async def answers(self) -> bool:
        """True when Envoy is up, whether it listens or not."""
        return await self._get("/ready") is not None

    async def versions(self) -> dict[str, str] | None:
        """The version in use of each watched source, by its statistics' name; None when Envoy does not answer."""
        text = await self._get("/stats?filter=version_text")
        return None if text is None else {found["name"]: found["version"] for found in _VERSION.finditer(text)}

    async def statistics(self, pattern: str) -> str | None:
        """Statistics that ever counted and whose own name matches `pattern`, in Prometheus' format.

        None when Envoy does not answer.
        """
        query = urlencode({"filter": pattern, "usedonly": ""})
        return await self._get(f"/stats/prometheus?{query}", STATISTICS_S)

    async def reopen_logs(self) -> bool:
        """Have Envoy open its access log again, by name. False when it does not answer."""
        try:
            response = await self._client.post("/reopen_logs")
        except (httpx2.HTTPError, OSError):
            return False
        return response.status_code == httpx2.codes.OK

    async def stop_listening(self) -> bool:
        """Have Envoy take no new connection; those that are open go on. False when it does not answer."""
        try:
            response = await self._client.post("/drain_listeners")
        except (httpx2.HTTPError, OSError):
            return False
        return response.status_code == httpx2.codes.OK

    async def under_way(self) -> int:
        """Requests and streams that are not answered to their end; none where Envoy does not answer."""
        text = (
            await self._get("/stats?" + urlencode({"filter": r"^http\.(edge|services)\.downstream_rq_active$"})) or ""
        )
        return sum(int(line.rpartition(" ")[2]) for line in text.splitlines())

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _get(self, path: str, timeout_s: float = ANSWER_S) -> str | None:
        try:
            response = await self._client.get(path, timeout=timeout_s)
        except (httpx2.HTTPError, OSError):
            return None
        return response.text if response.status_code == httpx2.codes.OK else None
