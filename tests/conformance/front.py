"""A stand-in for the edge, so that a client without a token can talk to a governed server.

It adds what the edge would send on for one person and passes everything else untouched. It decides nothing: the
server behind it is the kit's own application, with every step of the chain. The real edge, and what happens to
those who may not, are tested in `tests/system` and `tests/attacks`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pegboard.testing import InMemoryHub
from tests.conformance.fixture.server import server

FIXTURE = Path(__file__).parent / "fixture"
PERSON = "pat"
GROUPS = ["platform"]
START_TIMEOUT_S = 60


class SignedIn:
    """Passes requests on as one person's, the way the edge does: identity headers are replaced, never added to."""

    def __init__(self, application: ASGIApp, hub: InMemoryHub) -> None:
        self._application = application
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            ours = {name.encode(): value.encode() for name, value in self._hub.headers(PERSON, GROUPS).items()}
            kept = [pair for pair in scope["headers"] if pair[0] not in ours]
            scope = {**scope, "headers": [*kept, *ours.items()]}
        await self._application(scope, receive, send)


@asynccontextmanager
async def fixture_behind_front() -> AsyncIterator[tuple[str, InMemoryHub]]:
    """The fixture at a URL of this machine, and the hub that has its records."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        hub = InMemoryHub(FIXTURE, server, public_url=origin)
        config = uvicorn.Config(
            SignedIn(hub.application(), hub),
            lifespan="on",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        front = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(front.serve, [listener])
            with anyio.fail_after(START_TIMEOUT_S):
                while not front.started:
                    await anyio.sleep(0.01)
            try:
                yield hub.name.resource_url(origin), hub
            finally:
                front.should_exit = True
