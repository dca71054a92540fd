"""The page of one server: whose it is, the tools of the person who looks, and how to connect each client to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.caller import Caller
from pegboard.core.client_configs import CLIENTS, ClientConfig, entry_name
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.explain import reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer, Release
from pegboard_hub.web.frame import Framer
from pegboard_hub.web.health_view import HealthView, health_view_of_one
from pegboard_hub.web.parts import Parts

PATH = "/servers/{namespace}/{name}"
PLATFORMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
DEFAULTS = {"$XDG_CONFIG_HOME": "~/.config", "$APPDATA": "%APPDATA%"}
"""How a page writes what stands in the paths of the clients' files."""


@dataclass(frozen=True, slots=True)
class ToolView:
    """One tool, and the surfaces from which the person finds it."""

    tool: ToolDeclaration
    surfaces: tuple[str, ...]
    stopped: str


@dataclass(frozen=True, slots=True)
class Way:
    """How one client is connected to the server.

    Attributes:
        command: for a terminal; empty where the client has none.
        link: for a browser; empty where the client takes none.
        snippet: for the client's file.
        files: where that file is, by platform; one without a name where it is the same everywhere.
        then: what the person does next.
        open: whether the server is open to the person from where the client may be taken to be.
    """

    client: ClientConfig
    command: str
    link: str
    snippet: str
    files: Mapping[str, str]
    then: str
    open: bool


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server, for one person who reaches it."""

    server: RegisteredServer
    release: Release
    health: HealthView
    url: str
    surfaces: tuple[str, ...]
    tools: tuple[ToolView, ...]
    ways: tuple[Way, ...]

    @property
    def connect(self) -> str:
        """The command that writes any client's file."""
        return f"pegboard connect CLIENT --server {self.server.name}"


def server_routes(parts: Parts, framer: Framer) -> APIRouter:
    """The route of a server's page."""
    router = APIRouter()

    @router.get(PATH)
    async def server(request: Request, namespace: str, name: str) -> HTMLResponse:
        title = f"{namespace}/{name}"
        frame = framer.frame(request, f"/servers/{title}", title)
        view = await server_view(parts, frame.viewer.caller, title) if frame.viewer else None
        return framer.answer("server.html", frame, view)

    return router


async def server_view(parts: Parts, caller: Caller, name: str) -> ServerView:
    """What a person sees of a server.

    Raises:
        Refused: there is none of that name, or it is not open to them from anywhere; nobody is told which.
    """
    found = parts.registry.current.deployed(name)
    places = {surface: replace(caller, surface=surface) for surface in PERSON_SURFACES}
    open_from = tuple(s for s, there in places.items() if found and reaches(there, found, parts.public_url))
    if found is None or found.release is None or not open_from:
        raise _nothing_here()
    listed = {s: {tool.name for tool in visible_tools(places[s], found, parts.public_url)} for s in open_from}
    tools = [(tool, tuple(s for s in open_from if tool.name in listed[s])) for tool in found.release.tools]
    url = found.name.resource_url(parts.public_url)
    health = await health_view_of_one(parts, found)
    return ServerView(
        server=found,
        release=found.release,
        health=health,
        url=url,
        surfaces=open_from,
        tools=tuple(ToolView(t, where, found.stopped_tools.get(t.name, "")) for t, where in tools if where),
        ways=tuple(_way(client, entry_name(found.name), url, open_from) for client in CLIENTS),
    )


def _way(client: ClientConfig, name: str, url: str, open_from: tuple[str, ...]) -> Way:
    return Way(
        client=client,
        command=client.command_for(name, url),
        link=client.link_for(name, url),
        snippet=client.snippet(name, url),
        files=_files(client),
        then=client.then.replace("NAME", name),
        open=not set(client.surfaces).isdisjoint(open_from),
    )


def _files(client: ClientConfig) -> dict[str, str]:
    written = {PLATFORMS[platform]: _written(path) for platform, path in client.files.items()}
    return {"": next(iter(written.values()))} if len(set(written.values())) == 1 else written


def _written(path: str) -> str:
    for variable, shown in DEFAULTS.items():
        path = path.replace(variable, shown)
    return path


def _nothing_here() -> Refused:
    what_to_do = "Look at the home page for the servers there are, or ask the platform team."
    message = "No such server here for you: it does not exist, or it is not open to you."
    return refuse(404, "unknown_server", message, what_to_do)
