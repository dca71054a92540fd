"""Where a client in this process waits for the redirect: one request on a loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\nDone"


@dataclass
class Listener:
    """The redirect's address, and what came to it, one after another."""

    redirect_uri: str = ""
    answers: asyncio.Queue[dict[str, str]] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request of a browser; only those for the redirect count."""
        target = (await reader.readline()).split(b" ")[1].decode()
        while (await reader.readline()).strip():
            pass
        writer.write(PAGE)
        await writer.drain()
        writer.close()
        if target.startswith("/callback?"):
            query = parse_qs(urlsplit(target).query)
            await self.answers.put({name: values[0] for name, values in query.items()})


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """A listener on a free port."""
    found = Listener()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.redirect_uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
    async with server:
        yield found
