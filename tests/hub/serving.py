"""A hub that listens, on a loopback port or at its internal socket, for what asks over HTTP and not in process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx2
import uvicorn
from fastapi import FastAPI

from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.opening import open_hub
from pegboard_hub.web.app import internal_app, public_app
from tests.hub.company import API, Company, Hub

START_S = 60


@dataclass(frozen=True)
class Served:
    """A hub that is served.

    Attributes:
        url: where it listens; what it takes for its own public URL is the company's.
        app: what answers there.
    """

    url: str
    app: FastAPI

    def token(self, person: str, surface: str = "cli") -> str:
        """A token for the API."""
        form = {"grant_type": DEMO_GRANT, "person": person, "surface": surface, "resource": API}
        return str(httpx2.post(f"{self.url}/oauth/token", data=form, timeout=START_S).json()["access_token"])


@contextmanager
def served(company: Company) -> Iterator[Served]:
    """The company's hub, served by a thread until the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        ready, servers, apps = threading.Event(), [], []

        async def serve() -> None:
            async with open_hub(company.home, company.settings) as parts:
                apps.append(public_app(parts))
                config = uvicorn.Config(apps[0], log_config=None, access_log=False, lifespan="off", ws="none")
                server = uvicorn.Server(config)
                servers.append(server)
                ready.set()
                await server.serve(sockets=[listener])

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            assert ready.wait(START_S)
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", apps[0])
        finally:
            if servers:
                servers[0].should_exit = True
            thread.join(START_S)
            assert not thread.is_alive()


@asynccontextmanager
async def inner_door(hub: Hub, company: Company) -> AsyncIterator[None]:
    """The internal door of a hub that is open, at its socket, for commands and servers in threads and processes."""
    config = uvicorn.Config(
        internal_app(hub.parts),
        uds=str(company.home.internal_socket),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(START_S):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task
