"""HTTP to an ASGI application in memory, with answers that flow.

httpx's own transport gives an answer once it is complete, and so never while the server asks the client something in
the middle of it (MCP's older era asks for a form like that).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
from starlette.types import ASGIApp, Message


class StreamingTransport(httpx2.AsyncBaseTransport):
    """Brings requests to one application; each runs in a task, which ends with its answer."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request, as soon as the head of the answer is there."""
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(self._run(request, exchange))
        task.add_done_callback(lambda _: exchange.finished())
        head = asyncio.create_task(exchange.head())
        try:
            await asyncio.wait({head, task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            head.cancel()
            await _left(exchange, task)
            raise
        if not head.done():
            head.cancel()
            await task
            raise httpx2.RemoteProtocolError("the application ended without an answer", request=request)
        start = await head
        return httpx2.Response(
            start["status"], headers=start["headers"], stream=_Body(exchange, task), request=request
        )

    async def _run(self, request: httpx2.Request, exchange: _Exchange) -> None:
        await self._application(_scope(request), exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer, as an application sees them."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._start: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start.set_result(message)
            return
        if part := message.get("body", b""):
            self._parts.put_nowait(part)
        if not message.get("more_body", False):
            self._parts.put_nowait(None)

    async def head(self) -> Message:
        return await self._start

    async def part(self) -> bytes | None:
        return await self._parts.get()

    def finished(self) -> None:
        self._parts.put_nowait(None)

    def leave(self) -> None:
        self._gone.set()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        self._exchange = exchange
        self._task = task

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._exchange.part()) is not None:
            yield part

    async def aclose(self) -> None:
        """The client is done with the answer; the application is told that nobody reads on."""
        await _left(self._exchange, self._task)


async def _left(exchange: _Exchange, task: asyncio.Task[None]) -> None:
    """Tell the application that the client is gone, and wait until it is done."""
    exchange.leave()
    with suppress(asyncio.CancelledError):
        await asyncio.shield(task)


def _scope(request: httpx2.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 123),
    }
