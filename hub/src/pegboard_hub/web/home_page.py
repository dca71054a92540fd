"""The home page: every server with its owner, what was done with it, and what the chosen person may use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.access import decide_access
from pegboard.core.release import ToolDeclaration
from pegboard_hub.ledger.model import Call, Figures
from pegboard_hub.ledger.questions import Search
from pegboard_hub.registry.explain import bound_to, visible_tools
from pegboard_hub.registry.first_steps import first_commands
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.status import RuntimeStatus, ServerState
from pegboard_hub.web.frame import Framer, Viewer
from pegboard_hub.web.health_view import HealthView, health_view
from pegboard_hub.web.ledger_api import live_since, reader_of
from pegboard_hub.web.operator import current_notices
from pegboard_hub.web.parts import Parts

PATH = "/"
RECENT_CALLS = 12
MOST_SERVERS = 200
NOT_LISTED = frozenset({Lifecycle.DRAFT, Lifecycle.RETIRED})
NOT_THERE: frozenset[ServerState] = frozenset({"not started", "preparing", "failed"})
"""Servers in these states are nothing to begin with."""


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server on the home page. With nobody chosen, `tools` and `refusal` stay empty.

    Attributes:
        wanting: what the author requests and the operator has not granted, in words.
        tools: those the chosen person may see.
        refusal: why the chosen person does not get in; empty when they do.
        fault: why it does not run; empty where it does.
    """

    server: RegisteredServer
    health: HealthView
    figures: Figures
    wanting: tuple[str, ...]
    tools: tuple[ToolDeclaration, ...]
    refusal: str
    fault: str


@dataclass(frozen=True, slots=True)
class HomeView:
    """Everything the home page shows within its frame."""

    problems: tuple[str, ...]
    notices: tuple[str, ...]
    totals: Figures
    tool_count: int
    server_count: int
    servers: tuple[ServerView, ...]
    calls: tuple[Call, ...]
    first_commands: tuple[str, ...]

    @property
    def reaches_any(self) -> bool:
        """Whether the chosen person gets into at least one server."""
        return any(server.server.release and not server.refusal for server in self.servers)


def home_routes(parts: Parts, framer: Framer) -> APIRouter:
    """The route of the home page."""
    router = APIRouter()

    @router.get(PATH)
    async def home(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        return framer.answer("home.html", frame, await home_view(parts, frame.viewer))

    return router


async def home_view(parts: Parts, viewer: Viewer | None) -> HomeView:
    """What the home page shows to one person of the demo directory, or to nobody in particular."""
    snapshot, status = parts.registry.current, parts.status.read()
    totals, each = await parts.ledger.figures()
    listed = [server for server in snapshot.servers.values() if server.lifecycle not in NOT_LISTED]
    shown = listed[:MOST_SERVERS]
    calls: list[Call] = []
    if viewer is not None:
        page = await parts.ledger.find(reader_of(parts, viewer.caller), Search(), live_since(status), RECENT_CALLS)
        calls = page.calls
    return HomeView(
        problems=(*snapshot.problems, *await parts.ledger.problems()),
        notices=current_notices(parts),
        totals=totals,
        tool_count=sum(len(server.release.tools) for server in snapshot.all_deployed if server.release),
        server_count=len(listed),
        servers=tuple(_server_view(parts, s, status, each.get(str(s.name), Figures()), viewer) for s in shown),
        calls=tuple(calls),
        first_commands=_first_commands(parts, status),
    )


def _first_commands(parts: Parts, status: RuntimeStatus) -> tuple[str, ...]:
    there = [s for s in parts.registry.current.all_deployed if not s.stopped and status.state(s) not in NOT_THERE]
    demo = parts.identity.demo
    if demo is None:
        return ("login", "servers", *(f"tools {server.name}" for server in there[:1]))
    return first_commands({server.name: server.granted for server in there}, demo.directory)


def _server_view(
    parts: Parts, server: RegisteredServer, status: RuntimeStatus, figures: Figures, viewer: Viewer | None
) -> ServerView:
    tools: tuple[ToolDeclaration, ...] = ()
    refusal = ""
    if viewer is not None and server.release is not None:
        bound = bound_to(viewer.caller, server, parts.public_url)
        # A stop is shown for what it is, beside what the person could use without it.
        refused = decide_access(bound, replace(server.access(parts.public_url), stopped="")).refusal
        refusal = refused.message if refused else ""
        tools = tuple(visible_tools(viewer.caller, server, parts.public_url))
    health = health_view(status, server)
    fault = status.faults.get(str(server.name), "") if health.state == "failed" else ""
    return ServerView(server, health, figures, _wanting(server), tools, refusal, fault)


def _wanting(server: RegisteredServer) -> tuple[str, ...]:
    words = {"groups": "group", "surfaces": "surface", "channels": "channel", "services": "service"}
    return tuple(
        f"{word} {value}"
        for kind, word in words.items()
        for value in _values(server.requested, kind)
        if value not in _values(server.granted, kind)
    )


def _values(access: Access, kind: str) -> tuple[str, ...]:
    values: tuple[str, ...] = getattr(access, kind)
    return values
