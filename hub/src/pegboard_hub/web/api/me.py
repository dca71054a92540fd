"""What the caller may use: servers, and tools across servers. Nothing is told of what else there is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from pegboard.core.caller import Caller
from pegboard_hub.registry.explain import reaches, visible_tools
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.pages_of_servers import Shown, page_of_servers
from pegboard_hub.web.api.registry_schema import AskedMyServers, AskedMyTools, CataloguePage, MyTool, MyTools
from pegboard_hub.web.api.views import my_tool
from pegboard_hub.web.knowing import at
from pegboard_hub.web.paging import cursor_of, page_of, place_of
from pegboard_hub.web.parts import Parts


def add_me_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/servers",
        summary="The servers that you may use, in order of name",
        response_model=CataloguePage,
        responses=refusals(304, 400),
    )
    async def list_my_servers(
        request: Request, caller: SignedIn, asked: Annotated[AskedMyServers, Query()]
    ) -> Response:
        there = at(caller, asked.surface)
        mine = parts.catalogue.reachable(there)
        page = page_of(mine, lambda server: str(server.name), parts.cursors, caller, "/me/servers", asked)
        shown = (Shown(server, usable=reaches(there, server, parts.public_url)) for server in page.items)
        return tagged(request, page_of_servers(parts, there, shown, page.next), caller)

    @router.get(
        "/tools",
        summary="The tools that you may use, across servers",
        response_model=MyTools,
        responses=refusals(304, 400),
    )
    async def list_my_tools(request: Request, caller: SignedIn, asked: Annotated[AskedMyTools, Query()]) -> Response:
        there = at(caller, asked.surface)
        after = place_of(parts.cursors, asked.cursor, caller, "/me/tools", asked)
        found = _tools(parts, there, (after[0], after[1]) if after else None, asked.limit + 1)
        shown = found[: asked.limit]
        last = (shown[-1].server, shown[-1].name) if len(found) > len(shown) else None
        body = MyTools(
            surface=there.surface,
            tools=shown,
            next=cursor_of(parts.cursors, last, caller, "/me/tools", asked) if last else None,
        )
        return tagged(request, body, caller)


def _tools(parts: Parts, caller: Caller, after: tuple[str, str] | None, limit: int) -> list[MyTool]:
    """Tools in order of server and name. Servers before the page's first are not looked at."""
    found: list[MyTool] = []
    for server in parts.catalogue.reachable(caller):
        name = str(server.name)
        if after is not None and name < after[0]:
            continue
        tools = sorted(visible_tools(caller, server, parts.public_url), key=lambda tool: tool.name)
        found += [my_tool(parts, tool, server) for tool in tools if after is None or (name, tool.name) > after]
        if len(found) >= limit:
            break
    return found[:limit]
