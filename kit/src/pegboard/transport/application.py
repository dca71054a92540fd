"""Putting a server together: project, chain, SDK and HTTP front, in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio

from pegboard.call.chain import Chain
from pegboard.call.ports import Recorder, Standings
from pegboard.core.metrics import SESSIONS
from pegboard.core.names import ServerName
from pegboard.project import Project
from pegboard.remote.metrics import ServerMeter
from pegboard.transport.http import GovernedApp
from pegboard.transport.sdk import SdkServer
from pegboard.transport.streams import OpenStreams


def build_application(
    project: Project,
    server: ServerName,
    public_url: str,
    standings: Standings,
    recorder: Recorder,
    release: str,
    meter: ServerMeter,
    background: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> GovernedApp:
    """The ASGI application of one server.

    Args:
        project: the checked project.
        server: its place in the registry.
        public_url: the edge's origin, which issues tokens.
        standings: where grants and keys come from.
        recorder: where records go.
        release: digest that records carry.
        meter: counts, and makes the page of metrics.
        background: entered beside the application, for example to deliver records.
    """
    chain = Chain(project.governed, standings, recorder, release, meter)
    sdk = SdkServer(project, server, chain, version=release[:12])
    meter.watch(SESSIONS, sdk.open_sessions)
    streams = OpenStreams(chain)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with background(), sdk.sessions.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(streams.watch)
            yield
            tasks.cancel_scope.cancel()

    return GovernedApp(chain, streams, sdk.sessions.asgi_app, server.path, public_url, meter, lifespan)
