"""The page that says how clients are connected to a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from pegboard.core.client_configs import CLIENTS, ClientConfig, entry_name
from pegboard.core.names import ServerName
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.knowing import open_from
from pegboard_hub.web.pages.frame import Frame
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.pages.servers.reach import refusal
from pegboard_hub.web.parts import Parts

PLATFORMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}

DEFAULTS = {"$XDG_CONFIG_HOME": "~/.config", "$APPDATA": "%APPDATA%"}
"""How a page writes what stands in the paths of the clients' files."""


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
class ConnectView:
    """How clients are connected; no ways where the person does not reach the server.

    Attributes:
        url: the server's address.
        origin: this instance's, for commands.
    """

    head: Head
    url: str
    surfaces: tuple[str, ...]
    refusal: str
    ways: tuple[Way, ...]
    origin: str

    @property
    def connect(self) -> str:
        """The command that writes any client's file."""
        return f"pegboard connect CLIENT --server {self.head.server.name} --url {self.origin}"


async def connect(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> ConnectView:
    """What the page on connecting shows."""
    caller = frame.caller
    surfaces = open_from(parts, caller, server)
    url = server.name.resource_url(parts.public_url) if server.reachable else ""
    ways = tuple(_way(client, server.name, url, surfaces) for client in CLIENTS) if surfaces else ()
    refused = refusal(parts, frame, server, surfaces)
    return ConnectView(await head(parts, frame, server), url, surfaces, refused, ways, parts.public_url)


def _way(client: ClientConfig, server: ServerName, url: str, surfaces: tuple[str, ...]) -> Way:
    name = entry_name(server)
    return Way(
        client=client,
        command=client.command_for(name, url),
        link=client.link_for(name, url),
        snippet=client.snippet(name, url),
        files=_files(client),
        then=client.then.replace("NAME", name),
        open=not set(client.surfaces).isdisjoint(surfaces),
    )


def _files(client: ClientConfig) -> dict[str, str]:
    written = {PLATFORMS[platform]: _written(path) for platform, path in client.files.items()}
    return {"": next(iter(written.values()))} if len(set(written.values())) == 1 else written


def _written(path: str) -> str:
    for variable, shown in DEFAULTS.items():
        path = path.replace(variable, shown)
    return path
