"""A hub that is served on a port of its own under the URL that it takes for its own, so that a browser's forms count;
servers' questions are put to it as their doors would."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import uvicorn

from pegboard.core.approval import Answer
from pegboard_hub.opening import open_hub
from pegboard_hub.web.app import public_app
from pegboard_hub.web.parts import Parts
from tests.folders import new_folder
from tests.hub.approving import ask, with_overwriting
from tests.hub.company import begin_with_the_newest_schema, found_company
from tests.ports import free_port

START_S = 60

T = TypeVar("T")


@dataclass(frozen=True)
class Rig:
    """The hub.

    Attributes:
        url: where it listens.
        loop: in which it runs.
    """

    url: str
    parts: Parts
    loop: asyncio.AbstractEventLoop

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Do something in the hub."""
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(START_S)

    def ask(self, *actions: Mapping[str, Any], person: str = "ana", **how: Any) -> Answer:
        """Ask as a person's call does."""
        demo = self.parts.identity.demo
        assert demo is not None
        token = demo.issue(person, "cli", None, f"{self.url}/mcp/prod/presto").access_token
        return self.run(ask(self.parts, token, *actions, **how))


@contextmanager
def served_approvals() -> Iterator[Rig]:
    """A company's hub, served by a thread until the end."""
    root, port = new_folder(), free_port()
    company = found_company(root)
    company.deploy("prod/presto", with_overwriting())
    settings = replace(company.settings, public_url=f"http://localhost:{port}")
    ready, rigs, servers = threading.Event(), list[Rig](), list[uvicorn.Server]()

    async def serve() -> None:
        await begin_with_the_newest_schema(company.home.database)
        async with open_hub(company.home, settings) as parts:
            rigs.append(Rig(settings.public_url, parts, asyncio.get_running_loop()))
            config = uvicorn.Config(
                public_app(parts),
                host="127.0.0.1",
                port=port,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
            )
            servers.append(uvicorn.Server(config))
            ready.set()
            await servers[0].serve()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        assert ready.wait(START_S)
        while not servers[0].started:
            assert thread.is_alive()
            threading.Event().wait(0.02)
        yield rigs[0]
    finally:
        if servers:
            servers[0].should_exit = True
        thread.join(START_S)
        shutil.rmtree(root)
    assert not thread.is_alive()
