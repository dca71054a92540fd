"""One attempt at a destination, within bounds: nothing it answers is kept, followed or shown.

The operator's file says where messages go, and nothing else does: no proxy of the environment, no redirect. Of an
answer the status counts, and `Retry-After`; its body is not read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2

from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.notify.settings import Receiver
from pegboard_hub.notify.signing import headers

log = logging.getLogger(__name__)

WHOLE_S: Final = 15.0
"""Seconds of one attempt, from looking the host up to the answer's head (Standard Webhooks, "Request timeouts")."""

CONNECT_S: Final = 5.0

LOOKUPS: Final = 4
"""Threads that wait for names: a name server that never answers holds these, and nobody else's."""

LONGEST_RETRY_AFTER_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended.

    Attributes:
        trouble: why it failed, in our own words; empty where it was delivered.
        of_all: whether others to the same destination would fail as well, so that they had better wait.
        gone: whether it wants nothing more (410).
        retry_after_s: how long it asked to be left alone.
    """

    trouble: str = ""
    of_all: bool = False
    gone: bool = False
    retry_after_s: float = 0.0


class Sender:
    """Sends to all destinations; each has a client of its own.

    Args:
        whole_s: seconds of one attempt.
        clock: seconds since the epoch.
    """

    def __init__(self, whole_s: float = WHOLE_S, clock: Callable[[], float] = time.time) -> None:
        self._whole_s = whole_s
        self._clock = clock
        self._clients: dict[str, httpx2.AsyncClient] = {}
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="webhook-lookup")

    async def send(self, receiver: Receiver, id_: str, body: str) -> Attempt:
        """Try once to deliver a message."""
        try:
            async with asyncio.timeout(self._whole_s):
                return await self._send(receiver, id_, body.encode())
        except ssl.SSLError as error:
            return Attempt(f"its certificates file cannot be used ({error.reason or 'SSL'})", of_all=True)
        except (TimeoutError, httpx2.TimeoutException):
            return Attempt(f"it did not answer within {self._whole_s:g} s", of_all=True)
        except (httpx2.HTTPError, OSError) as error:
            return Attempt(f"it cannot be reached ({_kind(error)})", of_all=True)
        except Exception as error:  # a URL that the client does not take; what it says of it repeats the URL
            return Attempt(f"it cannot be asked ({type(error).__name__})", of_all=True)

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            await client.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _send(self, receiver: Receiver, id_: str, body: bytes) -> Attempt:
        await self._look_up(receiver.url)
        signed = headers(id_, int(self._clock()), body, receiver.keys)
        async with (await self._client(receiver)).stream(
            "POST", receiver.url, content=body, headers=signed
        ) as answer:
            return _read(answer)

    async def _look_up(self, url: str) -> None:
        """See that the host has an address, where a slow name server holds up nobody else."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        await asyncio.get_running_loop().run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        )

    async def _client(self, receiver: Receiver) -> httpx2.AsyncClient:
        """The destination's client. Reading authorities takes a while, so it is done once, and beside the loop."""
        if receiver.name not in self._clients:
            context = await asyncio.to_thread(_context, receiver)
            self._clients[receiver.name] = httpx2.AsyncClient(
                verify=context,
                follow_redirects=False,
                trust_env=False,
                timeout=httpx2.Timeout(self._whole_s, connect=min(CONNECT_S, self._whole_s)),
                limits=httpx2.Limits(max_connections=8, max_keepalive_connections=0),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "Pegboard"},
            )
        return self._clients[receiver.name]


def _context(receiver: Receiver) -> ssl.SSLContext:
    if receiver.url.startswith("http://"):
        return NO_TLS
    context = ssl.create_default_context()
    if receiver.certificates is not None:
        context.load_verify_locations(cafile=receiver.certificates)
    return context


def _read(answer: httpx2.Response) -> Attempt:
    status = answer.status_code
    if answer.is_success:
        return Attempt()
    if answer.is_redirect or 300 <= status < 400:
        return Attempt(f"it answers {status}: redirects are not followed, name the last place", of_all=True)
    if status == httpx2.codes.GONE:
        return Attempt("it answers 410: it wants nothing more", of_all=True, gone=True)
    busy = status == httpx2.codes.TOO_MANY_REQUESTS or status >= 500
    return Attempt(f"it answers {status}", of_all=busy, retry_after_s=_retry_after(answer) if busy else 0.0)


def _retry_after(answer: httpx2.Response) -> float:
    """Seconds that it asks for (RFC 9110 §10.2.3); a date is not read, our own pauses do as well."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), LONGEST_RETRY_AFTER_S) if said.isascii() and said.isdigit() and len(said) < 8 else 0.0


def _kind(error: BaseException) -> str:
    """What went wrong, by its class: what an error says may repeat the URL."""
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    seen = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in seen:
        return "its certificate is not believed"
    return type(error).__name__
