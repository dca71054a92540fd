"""Backends that are spoken to over HTTP: one client, kept, with bounds on what it reads."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Final

import anyio
import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from pegboard.proxy.stdio import TOO_LARGE

CONNECT_S: Final = 5.0

_SESSION: Final = "mcp-session-id"

MOST_STREAMED: Final = 256 * 1024 * 1024
"""Bytes of one stream that stays open beside the calls; then it is opened anew."""

MOST_A_SECOND: Final = 64 * 1024
"""Bytes a second of such a stream that are read: each message of it may be a request, which wants an answer."""

BROKEN: Final = -32091
"""Code of the error that stands in the place of an answer that broke off, within the proxy alone."""

NOT_SENT: Final = -32092
"""Code of the error of a request that never reached the backend, within the proxy alone."""

NO_SESSION: Final = -32093
"""Code of the error of a request whose session the backend does not know any more, within the proxy alone."""

_ANSWERED_HERE: Final = frozenset({"tools/call", "tools/list"})
"""Requests whose failures are answered in their place. The SDK's transport ends with a fault of one request, and with
it the calls of all others; while it connects, it should."""


class _Answer(httpx2.AsyncByteStream):
    """An answer as far as it may go; what is wrong with it is told in its place, to whoever waits for it."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, most: int, instead: Callable[[int], bytes], pace: float = math.inf
    ) -> None:
        self._stream = stream
        self._left = most
        self._instead = instead
        self._pace = pace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpaid = 0
        try:
            async for part in self._stream:
                self._left -= len(part)
                unpaid += len(part)
                if unpaid > self._pace / 16:
                    await anyio.sleep(unpaid / self._pace)
                    unpaid = 0
                if self._left < 0:
                    yield self._instead(TOO_LARGE)
                    return
                yield part
        except httpx2.TransportError:
            yield self._instead(BROKEN)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Bounded(httpx2.AsyncBaseTransport):
    """Reads no more of an answer than `most` bytes, and lets no fault of one request end those beside it."""

    def __init__(self, most: int, verify: ssl.SSLContext | bool) -> None:
        limits = httpx2.Limits(max_connections=512)
        self._inner = httpx2.AsyncHTTPTransport(verify=verify, limits=limits)
        self._most = most

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # Packed, a small answer could become a large one after it was measured.
        request.headers["accept-encoding"] = "identity"
        number = _number(request)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            if number is None:
                raise
            return _instead(request, number, NOT_SENT if isinstance(error, httpx2.ConnectError) else BROKEN)
        response.headers.pop("set-cookie", None)
        return await self._read(request, response, number)

    async def _read(
        self, request: httpx2.Request, response: httpx2.Response, number: int | str | None
    ) -> httpx2.Response:
        if response.status_code == httpx2.codes.NOT_FOUND and _SESSION in request.headers and number is not None:
            # A session that is gone runs nothing (MCP 2025-11-25, Session Management).
            await response.aclose()
            return _instead(request, number, NO_SESSION)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 - of an asynchronous transport
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return _instead(request, number, BROKEN)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            calls = request.method == "POST"
            most, pace = (self._most, math.inf) if calls else (MOST_STREAMED, float(MOST_A_SECOND))
            instead = partial(_event, number)
            response.stream = _Answer(stream, most, instead, pace)
            return response
        parts, left = [], self._most
        try:
            async for part in stream:
                left -= len(part)
                if left < 0:
                    return _instead(request, number, TOO_LARGE)
                parts.append(part)
        except httpx2.TransportError:
            return _instead(request, number, BROKEN)
        finally:
            await stream.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"transfer-encoding"]
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(parts), request=request)

    async def __aenter__(self) -> _Bounded:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def streams(
    url: str, headers: Mapping[str, str], timeout_s: float, message_bytes: int, verify: ssl.SSLContext | None = None
) -> AsyncIterator[TransportStreams]:
    """A backend's endpoint as a transport of the SDK.

    No redirect leads off the endpoint's origin (the SDK's rule), no proxy is taken from the environment, and cookies
    are not kept.

    Args:
        url: of the endpoint.
        headers: sent with each request; they hold secrets.
        timeout_s: within which something must come.
        message_bytes: largest answer.
        verify: TLS with authorities of its own; None for those that the machine knows.
    """
    async with (
        httpx2.AsyncClient(
            transport=_Bounded(message_bytes, verify or True),
            headers=dict(headers),
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S),
            trust_env=False,
            follow_redirects=False,
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=message_bytes) as pair,
    ):
        yield pair


def _number(request: httpx2.Request) -> int | str | None:
    """The id of a request whose failure is answered here; None of all others."""
    try:
        message = json.loads(request.content)
    except (ValueError, httpx2.RequestNotRead):
        return None
    return message.get("id") if isinstance(message, dict) and message.get("method") in _ANSWERED_HERE else None


def _error(number: int | str | None, code: int) -> bytes:
    error = {"code": code, "message": "no answer"}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()


def _event(number: int | str | None, code: int) -> bytes:
    return b"\n\ndata: " + _error(number, code) + b"\n\n"


def _instead(request: httpx2.Request, number: int | str | None, code: int) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return httpx2.Response(200, headers=headers, content=_error(number, code), request=request)
