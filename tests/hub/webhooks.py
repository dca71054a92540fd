"""Receivers of webhooks on this machine, and what is told of approvals without any approval."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pegboard_hub.notify.message import Notice
from pegboard_hub.notify.settings import NotifySettings, open_notify

KEY = b"a key of the tests, 32 bytes long"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
OTHER_KEY = b"another key of the tests, longer."
OTHER_SECRET = f"whsec_{base64.b64encode(OTHER_KEY).decode()}"


@dataclass
class Received:
    """One request as it came."""

    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:] if line]
        return {name.lower(): value.strip() for name, _, value in lines}

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, key: bytes) -> bool:
        """What a receiver does (Standard Webhooks, "Verifying signatures")."""
        headers = self.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + self.body
        wanted = f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
        return any(hmac.compare_digest(wanted, each) for each in headers["webhook-signature"].split(" "))


@dataclass
class Hook:
    """A receiver.

    Attributes:
        answers: heads of the answers to come, without their ends; the last stands.
        got: the requests, in the order they came.
        holds: set, it reads a request and says nothing until it is cleared.
    """

    port: int = 0
    scheme: str = "http"
    answers: list[str] = field(default_factory=lambda: ["HTTP/1.1 204 No Content"])
    body: bytes = b""
    got: list[Received] = field(default_factory=list)
    holds: bool = False
    open: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hooks/s3cret-of-the-path"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            self.got.append(Received(head, await reader.readexactly(length)))
            while self.holds:
                await asyncio.sleep(0.01)
            said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(f"{said}\r\nconnection: close\r\n\r\n".encode() + self.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.open.discard(task)
            writer.close()


@asynccontextmanager
async def hook(context: ssl.SSLContext | None = None) -> AsyncIterator[Hook]:
    """A receiver that listens until the end."""
    found = Hook(scheme="https" if context else "http")
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        found.holds = False
        server.close()
        for task in list(found.open):
            task.cancel()
        await server.wait_closed()


def notify_file(folder: Path, **destinations: str) -> Path:
    """A notification file; each destination's lines follow its name, and all have one secret."""
    secret = folder / "hook.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    parts = [
        f'[destinations.{name.replace("_", "-")}]\nsecret = {{ file = "hook.secret" }}\n{lines}\n'
        for name, lines in destinations.items()
    ]
    path = folder / "notify.toml"
    path.write_text("\n".join(parts))
    return path


def settings(folder: Path, **hooks: Hook | tuple[Hook, str]) -> NotifySettings:
    """Destinations that are receivers, with more lines of the file where they are given."""
    told = {
        name: f'url = "{found.url}"\n{more}'
        for name, each in hooks.items()
        for found, more in [each if isinstance(each, tuple) else (each, "")]
    }
    return open_notify(notify_file(folder, **told), {})


def notice(id_: str = "apr1", **changes: Any) -> Notice:
    """What is told of one request."""
    said = {
        "id": id_,
        "state": "requested",
        "person": "ana",
        "server": "prod/presto",
        "tool": "drop_tables",
        "by": "owner",
        "group": "platform",
        "requested_at_ms": 1_800_000_000_000,
        "expires_at_ms": 1_800_003_600_000,
    }
    return Notice(**(said | changes))
