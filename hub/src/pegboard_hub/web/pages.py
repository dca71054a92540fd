"""The pages. Each is a view, computed here, and a template that only shows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pegboard.core.access import decide_access
from pegboard.core.caller import Caller
from pegboard.core.release import ToolDeclaration
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.ledger.model import Call, Figures
from pegboard_hub.registry.explain import bound_to, visible_tools
from pegboard_hub.registry.first_steps import first_commands
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.status import RuntimeStatus, ServerState
from pegboard_hub.web.api import owned_servers
from pegboard_hub.web.operator import current_notices
from pegboard_hub.web.parts import Parts

HERE = Path(__file__).parent
RECENT_CALLS = 12
MOST_SERVERS = 200


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server on the home page. With nobody chosen, `tools` and `refusal` stay empty.

    Attributes:
        wanting: what the author requests and the operator has not granted, in words.
        tools: those the chosen person may see.
        refusal: why the chosen person does not get in; empty when they do.
    """

    server: RegisteredServer
    state: ServerState
    figures: Figures
    wanting: tuple[str, ...]
    tools: tuple[ToolDeclaration, ...]
    refusal: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """The demo person a page is shown as."""

    sub: str
    name: str
    about: str
    caller: Caller


@dataclass(frozen=True, slots=True)
class HomeView:
    """Everything the home page shows."""

    viewer: Viewer | None
    notice: str
    surface: str
    surfaces: tuple[str, ...]
    people: dict[str, str]
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    status: RuntimeStatus
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


def page_routes(parts: Parts) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    templates = _templates()

    @router.get("/")
    async def home(request: Request) -> HTMLResponse:
        asked = request.query_params
        view = await home_view(parts, asked.get("as", ""), asked.get("surface", ""))
        page = templates.get_template("home.html").render(view=view, public_url=parts.public_url)
        # What a person may see must not be kept where another may look.
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    return router


async def home_view(parts: Parts, person: str, surface: str) -> HomeView:
    """What the home page shows to one person of the demo directory, or to nobody in particular."""
    snapshot, status, directory = parts.registry.current, parts.status.read(), parts.sign_in.directory
    viewer, notice = _viewer(parts, person, surface or "cli")
    totals, each = await parts.ledger.figures()
    shown = list(snapshot.servers.values())[:MOST_SERVERS]
    calls: list[Call] = []
    if viewer is not None:
        calls = await parts.ledger.calls(
            sub=viewer.sub,
            owned=owned_servers(parts, viewer.caller),
            limit=RECENT_CALLS,
            is_live=lambda name: status.process_state(name) == "live",
        )
    return HomeView(
        viewer=viewer,
        notice=notice,
        surface=viewer.caller.surface if viewer else "cli",
        surfaces=directory.surfaces,
        people={sub: found.name for sub, found in directory.people.items()},
        problems=(*snapshot.problems, *await parts.ledger.problems()),
        notices=current_notices(parts),
        status=status,
        totals=totals,
        tool_count=sum(len(server.release.tools) for server in snapshot.all_deployed if server.release),
        server_count=len(snapshot.servers),
        servers=tuple(_server_view(parts, s, status, each.get(str(s.name), Figures()), viewer) for s in shown),
        calls=tuple(calls),
        first_commands=_first_commands(parts, status),
    )


def _first_commands(parts: Parts, status: RuntimeStatus) -> tuple[str, ...]:
    there = [s for s in parts.registry.current.all_deployed if status.state(s) != "not started"]
    return first_commands({server.name: server.granted for server in there}, parts.sign_in.directory)


def _viewer(parts: Parts, person: str, surface: str) -> tuple[Viewer | None, str]:
    if not person:
        return None, ""
    try:
        caller = parts.sign_in.caller(person, surface)
    except OAuthRefused as error:
        return None, f"{error.description[0].upper()}{error.description[1:]}."
    found = parts.sign_in.directory.people[person]
    return Viewer(person, found.name, found.about, caller), ""


def _server_view(
    parts: Parts, server: RegisteredServer, status: RuntimeStatus, figures: Figures, viewer: Viewer | None
) -> ServerView:
    tools: tuple[ToolDeclaration, ...] = ()
    refusal = ""
    if viewer is not None and server.release is not None:
        bound = bound_to(viewer.caller, server, parts.public_url)
        refused = decide_access(bound, server.access(parts.public_url)).refusal
        refusal = refused.message if refused else ""
        tools = tuple(visible_tools(viewer.caller, server, parts.public_url))
    return ServerView(server, status.state(server), figures, _wanting(server), tools, refusal)


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


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style_url"] = _versioned("pegboard.css")
    environment.filters["moment"] = _moment
    environment.filters["number"] = _number
    return environment


def _versioned(name: str) -> str:
    """A static file's URL with its content's digest, so that browsers may keep it and still see a change."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(value: float) -> str:
    """A figure for people: no decimals from 100 on, one below, none where it is whole."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}"
