"""What stands between a client and the world: it opens no browser and reaches nobody but this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

OPENERS = ("xdg-open", "open", "sensible-browser", "x-www-browser", "www-browser")
LOOPBACK = "localhost,127.0.0.1,::1"


@dataclass
class Doorman:
    """A client's surroundings.

    Attributes:
        home: its home.
        proxy: an address that it is to go out by, where everybody is turned away.
        turned_away: whom it wanted to reach there.
    """

    home: Path
    proxy: str
    turned_away: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        programs = self.home / "bin"
        programs.mkdir()
        pipe = self.home / "opened"
        os.mkfifo(pipe)
        self._opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        for name in OPENERS:
            (programs / name).write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')
            (programs / name).chmod(0o755)

    def environment(self, node: Path) -> dict[str, str]:
        """Variables for a client: our browser, nobody's proxy but ours, no updates, nothing reported."""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        proxies = {spelled: self.proxy for name in names for spelled in (name, name.lower())}
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PATH": f"{self.home / 'bin'}:{node.parent}:/usr/bin:/bin",
            "BROWSER": str(self.home / "bin" / OPENERS[0]),
            "DISPLAY": ":99",  # without one, some do not try to open a browser
            "NO_COLOR": "1",
            **proxies,
            "NO_PROXY": LOOPBACK,
            "no_proxy": LOOPBACK,
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "GEMINI_API_KEY": "none; no model is asked",
        }

    async def opened(self, seconds: float = 60) -> str:
        """The next address that the client wants a browser to open."""
        with anyio.fail_after(seconds):
            await anyio.wait_readable(self._opened)
        return os.read(self._opened, 65536).decode().strip()

    async def turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request to the world."""
        self.turned_away.append((await reader.readline()).decode(errors="replace").strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._opened)


@asynccontextmanager
async def doorman(home: Path) -> AsyncIterator[Doorman]:
    """Surroundings with a home of their own."""
    found = Doorman(home, "")
    server = await asyncio.start_server(found.turn_away, "127.0.0.1", 0)
    found.proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield found
    found.close()
