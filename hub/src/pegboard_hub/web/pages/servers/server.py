"""A server's pages, one for each thing people come for: what it is, tools, how to connect, reviews, releases.

Everybody who is signed in sees the server; tools are those of the person who looks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.pages.frame import Frame, Framer
from pegboard_hub.web.pages.servers.connect import connect
from pegboard_hub.web.pages.servers.head import PATH, framed
from pegboard_hub.web.pages.servers.overview import overview
from pegboard_hub.web.pages.servers.releases import releases
from pegboard_hub.web.pages.servers.security import security
from pegboard_hub.web.pages.servers.tools import tools
from pegboard_hub.web.parts import Parts

Page = Callable[[Parts, Frame, RegisteredServer, Request], Awaitable[Any]]


def add_server_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of a server's pages."""

    def page(tab: str, template: str, view: Page) -> None:
        async def shown(request: Request, namespace: str, name: str) -> HTMLResponse:
            frame, found = framed(parts, framer, request, f"{namespace}/{name}", tab)
            return framer.answer(template, frame, await view(parts, frame, found, request))

        router.add_api_route(f"{PATH}/{tab}" if tab else PATH, shown, methods=["GET"])

    page("", "server.html", overview)
    page("tools", "server_tools.html", tools)
    page("connect", "server_connect.html", connect)
    page("security", "server_security.html", security)
    page("releases", "server_releases.html", releases)
