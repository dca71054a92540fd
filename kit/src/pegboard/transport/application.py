"""Putting a server together: project, chain, SDK and HTTP front, in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio

from pegboard.call.approve import Approver
from pegboard.call.chain import Chain
from pegboard.call.context import told_caller
from pegboard.call.ports import Approvals, Recorder, Standings
from pegboard.core.metrics import SESSIONS
from pegboard.core.names import ServerName
from pegboard.project import Project
from pegboard.proxy.server import ProxiedServer
from pegboard.remote.metrics import ServerMeter
from pegboard.transport.http import GovernedApp
from pegboard.transport.sdk import SdkServer
from pegboard.transport.smoke import SmokeCalls
from pegboard.transport.streams import OpenStreams


def build_application(
    project: Project,
    server: ServerName,
    public_url: str,
    standings: Standings,
    recorder: Recorder,
    release: str,
    meter: ServerMeter,
    approvals: Approvals,
    process: str,
    state_key: bytes,
    background: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    *,
    smoke: bool = False,
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
        approvals: who knows whether people said yes.
        process: id of this process, by which what is claimed for it is remembered.
        state_key: 32 secret bytes, the same for every process of this server; seals what clients bring back.
        background: entered beside the application, for example to deliver records.
        smoke: make the manifest's smoke calls at the start.
    """
    if isinstance(project.server, ProxiedServer):
        project.server.caller = told_caller
    approver = Approver(project.gates, approvals, process)
    chain = Chain(project.governed, standings, recorder, release, meter, approver, blocked=project.server.blocked)
    sdk = SdkServer(project, server, chain, release[:12], state_key, public_url)
    meter.watch(SESSIONS, sdk.open_sessions)
    streams = OpenStreams(chain)
    calls = SmokeCalls(project.manifest.smoke if smoke else (), _not_called(project), sdk.call_for_nobody)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with background(), sdk.sessions.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(streams.watch)
            tasks.start_soon(calls.run)
            yield
            tasks.cancel_scope.cancel()

    endpoint = sdk.sessions.asgi_app
    return GovernedApp(
        chain,
        streams,
        endpoint,
        server.path,
        public_url,
        meter,
        lifespan,
        calls,
        sdk.open_sessions,
        lambda: _blocked(project),
    )


def _blocked(project: Project) -> dict[str, str]:
    """Tools of the project that are not called now, each with why."""
    found = {name: project.server.blocked(name) for name in project.governed}
    return {name: f"is blocked: it {why}" for name, why in found.items() if why}


def _not_called(project: Project) -> dict[str, str]:
    """Tools that no smoke call may call, each with why: what changes something, and what asks a person first."""
    named = {call.tool for call in project.manifest.smoke}
    known = {tool.name: tool for tool in project.declaration.tools}
    return {
        name: why
        for name in named
        if (
            why := "is no tool of this server"
            if name not in known
            else "is not declared read-only (read_only_hint), so it is not called"
            if not known[name].read_only
            else "asks a person first, so it is not called"
            if name in project.gates
            else ""
        )
    }
