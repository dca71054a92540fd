"""The API's routes to the history: who changed what, and why, as far as the caller may know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.caller import Caller
from pegboard_hub.registry import history
from pegboard_hub.registry.history import Entry
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import oversees, owns, told_history
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.registry_schema import AskedHistory, HistoryEntry, HistoryPage
from pegboard_hub.web.api.views import history_entry
from pegboard_hub.web.knowing import known_server, looks_after
from pegboard_hub.web.paging import cursor_of, place_of
from pegboard_hub.web.parts import Parts

LOOKED_AT = 1000
"""Entries that one request looks at; a page ends there, and has a next one."""

MayRead = Callable[[str], RegisteredServer | None]
"""The server of that name, where the caller may read its history."""


def add_history_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/servers/{namespace}/{name}/history",
        summary="What changed of a server, the newest first",
        response_model=HistoryPage,
        responses=refusals(304, 400, 404),
    )
    async def get_server_history(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedHistory, Query()]
    ) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")

        def may_read(_name: str) -> RegisteredServer | None:
            return server

        body = await _page(parts, caller, f"/history {server.name}", asked, may_read, str(server.name))
        return tagged(request, body, caller)

    @router.get(
        "/history",
        summary="What changed of all servers, for overseers; for others, of those that they own",
        response_model=HistoryPage,
        responses=refusals(304, 400),
    )
    async def get_history(request: Request, caller: SignedIn, asked: Annotated[AskedHistory, Query()]) -> Response:
        servers = parts.registry.current.servers
        everything = oversees(parts.reviewing.rights.roles, caller)

        def may_read(name: str) -> RegisteredServer | None:
            server = servers.get(name)
            return server if server is not None and (everything or owns(caller, server)) else None

        return tagged(request, await _page(parts, caller, "/history", asked, may_read, None), caller)


async def _page(
    parts: Parts, caller: Caller, of: str, asked: AskedHistory, may_read: MayRead, server: str | None
) -> HistoryPage:
    before = place_of(parts.cursors, asked.cursor, caller, of, asked)
    known_one = may_read(server) if server is not None else None
    shortened = known_one is not None and not looks_after(parts, caller, known_one)
    shown: list[HistoryEntry] = []
    async with parts.database.read() as connection:
        looked = await _look(connection, server, asked, before)
    last: int | None = None
    for entry in looked:
        if len(shown) == asked.limit:
            break
        last = entry.seq
        known = may_read(entry.server)
        told = told_history(parts.reviewing.rights.roles, caller, known, entry) if known is not None else None
        if known is not None and told is not None:
            shown.append(history_entry(parts, caller, known, told))
    more = last is not None and (last != looked[-1].seq or len(looked) == LOOKED_AT)
    onward = cursor_of(parts.cursors, last, caller, of, asked) if more else None
    return HistoryPage(entries=shown, shortened=shortened, next=onward)


async def _look(
    connection: AsyncConnection, server: str | None, asked: AskedHistory, before: int | None
) -> list[Entry]:
    return await history.entries(connection, server, asked.actor, before, LOOKED_AT)
