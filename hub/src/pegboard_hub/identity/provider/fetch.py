"""Asking the provider: one client and one TLS context for the process, and a limit to everything.

No redirect is followed: what is asked carries secrets, and metadata names the final place. A provider that does not
answer costs a caller `WHOLE_S` at most, and never holds anything that others wait for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.bodies import read_bounded
from pegboard_hub.identity.person import LoginUnavailable

log = logging.getLogger(__name__)

CONNECT_S = 3.0
WHOLE_S = 5.0
"""Seconds for one answer, from the first byte sent to the last received."""

MOST_BYTES = 1024 * 1024
MOST_CONNECTIONS = 32

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered. `document` is empty where the body is no JSON object."""

    status: int
    document: Json

    @property
    def well(self) -> bool:
        """Whether it is what was asked for."""
        return self.status == httpx2.codes.OK

    @property
    def error(self) -> str:
        """The OAuth error's code (RFC 6749 §5.2), cut to what may be logged and shown."""
        code = str(self.document.get("error", ""))[:60]
        return code if code.isascii() and code.replace("_", "").isalnum() else ""


class Fetcher:
    """Asks one provider."""

    def __init__(
        self,
        certificates: Path | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        whole_s: float = WHOLE_S,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            certificates: PEM file of authorities beside the machine's.
            transport: in place of the network, in tests.
            whole_s: seconds for one answer.

        Raises:
            ConfigurationError: the file holds no certificates.
        """
        self._whole_s = whole_s
        self._client = httpx2.AsyncClient(
            transport=transport,
            verify=_context(certificates) if transport is None else True,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx2.Timeout(whole_s, connect=min(CONNECT_S, whole_s)),
            limits=httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=8),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "pegboard"},
        )

    async def get(self, url: str, bearer: str = "") -> Answer:
        """Ask for a document, with an access token where one is given.

        Raises:
            LoginUnavailable: no answer that says anything came in time.
        """
        return await self._ask("GET", url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {})

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Send a form.

        Raises:
            LoginUnavailable: as `get`.
        """
        return await self._ask("POST", url, headers=dict(headers), data=dict(form))

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, url: str, **more: Any) -> Answer:
        try:
            async with asyncio.timeout(self._whole_s), self._client.stream(method, url, **more) as response:
                body = await read_bounded(response, MOST_BYTES)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise _unavailable(url, type(error).__name__) from error
        if body is None:
            raise _unavailable(url, f"more than {MOST_BYTES} bytes, or packed ones")
        if response.is_redirect or response.is_server_error or response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            raise _unavailable(url, f"status {response.status_code}")
        return Answer(response.status_code, _document(body))


def _document(body: bytes) -> Json:
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unavailable(url: str, why: str) -> LoginUnavailable:
    log.warning("the login does not answer", extra={"url": url.partition("?")[0], "why": why})
    return LoginUnavailable("The company's login does not answer now. Try again in a minute.")


def _context(certificates: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if certificates is not None:
        try:
            context.load_verify_locations(cafile=certificates)
        except OSError as error:
            raise ConfigurationError(
                "provider.certificates", [f"{certificates} holds no certificates in PEM ({error.strerror or error})"]
            ) from error
    return context
