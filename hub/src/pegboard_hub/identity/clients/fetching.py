"""Getting a document from wherever a stranger's client id says, without being led anywhere else.

A name is looked up once, every address it has must be one of the internet's, and the connection goes to an address
that was looked at: a name that answers differently the second time (DNS rebinding) is not asked a second time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpcore2

from pegboard_hub.identity.clients.addresses import Address, is_public
from pegboard_hub.identity.clients.document import DocumentRefused, DocumentUnavailable, DocumentUrl, check_headers

FETCH_S = 5.0
"""Seconds that looking up, connecting and reading may take together."""

MOST_BYTES = 5 * 1024
"""Of a document (draft-ietf-oauth-client-id-metadata-document-01 §6.6)."""

LOOKUPS = 4
"""Threads that wait for names; a name server that never answers holds one."""

MOST_ADDRESSES = 3
"""Addresses of a name that are tried."""

HEADERS = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "Pegboard")]

Resolve = Callable[[str, int], Awaitable[Iterable[Address]]]
"""Looks up the addresses of a host."""


UNREACHED = "its address cannot be reached, or does not speak HTTPS"

NOT_FROM_HERE = "it cannot be fetched from here; the operator's log says why"
"""What is told of everything that happens before a public address has answered."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document as it was served, with the headers that say how long it may be kept."""

    body: bytes
    cache_control: str
    expires: str
    date: str


class Fetcher:
    """Fetches documents.

    Args:
        resolve: looks up names; the system's own way without it.
        may_connect: which addresses documents are fetched from.
        verify: whose certificates are believed; the system's authorities without it.
        proxy: URL of the operator's proxy. It looks names up itself, so that where it leads is up to its own rules.
        seconds: that one document may take.
    """

    def __init__(
        self,
        resolve: Resolve | None = None,
        may_connect: Callable[[Address], bool] = is_public,
        verify: ssl.SSLContext | None = None,
        proxy: str | None = None,
        seconds: float = FETCH_S,
    ) -> None:
        self._seconds = seconds
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="document-lookup")
        resolve = resolve or self._look_up
        self._verify, self._proxy = verify, proxy
        self._network = _CheckedNetwork(resolve, may_connect)
        self._here = _pool(None, _CheckedNetwork(resolve, lambda address: address.is_loopback), None)

    async def fetch(self, url: DocumentUrl) -> Fetched:
        """The document at a URL that was read by `read_url`.

        Raises:
            DocumentUnavailable: it cannot be had now.
            DocumentRefused: what is there is no document, or it is where nothing is fetched from.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._get(url)
        except TimeoutError as error:
            why = f"its address did not answer within {self._seconds:g} seconds"
            raise DocumentUnavailable(why, NOT_FROM_HERE) from error
        except (OSError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            # What the other side said stays here: it may be a service that was not meant to be asked.
            raise DocumentUnavailable(UNREACHED, NOT_FROM_HERE) from error
        except httpcore2.ProxyError as error:
            raise DocumentUnavailable("the proxy does not let it through", NOT_FROM_HERE) from error

    async def close(self) -> None:
        """Close what is open."""
        if "_pool" in vars(self):
            await self._pool.aclose()
        await self._here.aclose()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _pool(self) -> httpcore2.AsyncConnectionPool:
        """Made for the first document: reading the system's authorities takes a while."""
        return _pool(self._verify or ssl.create_default_context(), self._network, self._proxy)

    async def _get(self, url: DocumentUrl) -> Fetched:
        pool = self._here if url.is_loopback else self._pool
        where = httpcore2.URL(
            scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
        )
        async with pool.stream("GET", where, headers=HEADERS) as answer:
            headers = {name.lower().decode("latin-1"): text.decode("latin-1") for name, text in answer.headers}
            if answer.status >= 500 or answer.status == 429:
                raise DocumentUnavailable(f"its address answers {answer.status}")
            check_headers(answer.status, headers.get("content-type", ""), headers.get("content-encoding", ""))
            body = bytearray()
            async for chunk in answer.aiter_stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise DocumentRefused(f"it is larger than {MOST_BYTES} bytes")
        kept = (headers.get(name, "") for name in ("cache-control", "expires", "date"))
        return Fetched(bytes(body), *kept)

    async def _look_up(self, host: str, port: int) -> list[Address]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [ipaddress.ip_address(address[0]) for *_, address in found]


def _pool(
    verify: ssl.SSLContext | None, network: httpcore2.AsyncNetworkBackend, proxy: str | None
) -> httpcore2.AsyncConnectionPool:
    """Connections that are used once: each looks at its address."""
    settings: dict[str, Any] = {"ssl_context": verify, "max_keepalive_connections": 0, "http2": False, "retries": 0}
    if proxy is None:
        return httpcore2.AsyncConnectionPool(network_backend=network, **settings)
    return httpcore2.AsyncHTTPProxy(proxy_url=proxy, **settings)


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to hosts by addresses that were looked at; the name stays what TLS and the Host header say."""

    def __init__(self, resolve: Resolve, may_connect: Callable[[Address], bool]) -> None:
        self._resolve = resolve
        self._may_connect = may_connect
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look up, look at, connect."""
        addresses = list(dict.fromkeys(await self._resolve(host.strip("[]"), port)))
        if not addresses:
            raise DocumentUnavailable("its host has no address", NOT_FROM_HERE)
        if not all(self._may_connect(address) for address in addresses):
            raise DocumentRefused("its host has an address that nothing is fetched from", NOT_FROM_HERE)
        trouble: Exception | None = None
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore2.ConnectError as error:
                trouble = error
        raise DocumentUnavailable(UNREACHED, NOT_FROM_HERE) from trouble
