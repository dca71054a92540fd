"""The API's routes to servers, their releases and their tools. They only tell."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from pegboard.core.caller import Caller
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry import releases, store
from pegboard_hub.registry.explain import visible_tools
from pegboard_hub.registry.model import Access, RegisteredServer, Release
from pegboard_hub.registry.query import Query as Search
from pegboard_hub.registry.query import QueryRefused
from pegboard_hub.registry.releases import Outcome, Pinned
from pegboard_hub.registry.visibility import insider
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import invalid
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.pages_of_servers import Shown, page_of_servers
from pegboard_hub.web.api.queries import query_of, read_query
from pegboard_hub.web.api.registry_schema import (
    AskedFromSurface,
    AskedServers,
    AskedTools,
    CataloguePage,
    ReleaseDetail,
    Releases,
    ServerDetail,
    ToolDetail,
    ToolList,
)
from pegboard_hub.web.api.views import (
    detail,
    lists,
    release_entry,
    tool_detail,
    tools_digest,
    version_for,
)
from pegboard_hub.web.knowing import at, known_server, looks_after
from pegboard_hub.web.paging import AskedPage, cursor_of, place_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.remembered import Remembered

ONE = "/servers/{namespace}/{name}"

MOST_REMEMBERED = 10_000
"""Servers of which it is remembered how their reviews stand."""


def add_server_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""
    _add_servers(router, parts)
    _add_releases(router, parts)
    _add_tools(router, parts)


def _add_servers(router: APIRouter, parts: Parts) -> None:
    outcomes = Remembered[list[Outcome]](parts, MOST_REMEMBERED)

    @router.get(
        "/servers",
        summary="Browse and search servers: those that you may use from here, or with `all` every one",
        response_model=CataloguePage,
        responses=refusals(304, 400),
        openapi_extra=query_of(AskedServers),
    )
    async def list_servers(request: Request, caller: SignedIn) -> Response:
        return tagged(request, _found(parts, caller, read_query(request, AskedServers)), caller)

    @router.get(
        ONE,
        summary="All that you may know of a server",
        response_model=ServerDetail,
        responses=refusals(304, 404),
    )
    async def get_server(request: Request, namespace: str, name: str, caller: SignedIn) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        reviews = await outcomes.get(str(server.name), lambda: _outcomes(parts, server))
        body = detail(parts, caller, server, reviews)
        return tagged(request, body, caller, version=version_for(parts, caller, server))


async def _outcomes(parts: Parts, server: RegisteredServer) -> list[Outcome]:
    async with parts.database.read() as connection:
        return await releases.outcomes(connection, str(server.name))


def _found(parts: Parts, caller: Caller, asked: AskedServers) -> bytes:
    if asked.usable_from is not None and asked.surface not in (None, asked.usable_from):
        raise invalid("surface", "It is not the one of usable_from.", "Leave one of them out.")
    surface = asked.usable_from or asked.surface
    there = at(caller, surface)
    after = place_of(parts.cursors, asked.cursor, caller, "/servers", asked)
    search = Search(
        text=asked.q,
        owner=tuple(asked.owner),
        namespace=tuple(asked.namespace),
        sensitivity=tuple(asked.sensitivity),
        lifecycle=tuple(asked.lifecycle),
        status=tuple(asked.status),
        usable_from=there.surface if surface is not None or not asked.all else None,
        cursor=after[0] if after else None,
        limit=asked.limit,
    )
    try:
        found = parts.catalogue.find(there, search)
    except QueryRefused as error:
        raise invalid("q" if error.field == "text" else error.field, error.message, error.mend) from error
    next_ = cursor_of(parts.cursors, (found.next,), caller, "/servers", asked) if found.next else None
    shown = (Shown(hit.server, hit.reachable) for hit in found.items)
    return page_of_servers(parts, there, shown, next_, with_tools=asked.tools)


def _add_releases(router: APIRouter, parts: Parts) -> None:
    @router.get(
        f"{ONE}/releases",
        summary="A server's releases, the newest first",
        response_model=Releases,
        responses=refusals(304, 400, 404),
    )
    async def list_releases(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedPage, Query()]
    ) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        of, mine = f"/releases {server.name}", looks_after(parts, caller, server)
        after = place_of(parts.cursors, asked.cursor, caller, of, asked)
        async with parts.database.read() as connection:
            found = await releases.pinned(
                connection,
                str(server.name),
                (after[0], after[1]) if after else None,
                asked.limit + 1,
                deployed_only=not mine,
            )
        shown = found[: asked.limit]
        last = (shown[-1].seen_at_ms, shown[-1].digest) if len(found) > len(shown) else None
        body = Releases(
            releases=[release_entry(server, each) for each in shown],
            next=cursor_of(parts.cursors, last, caller, of, asked) if last else None,
        )
        return tagged(request, body, caller)

    @router.get(
        f"{ONE}/releases/{{release}}",
        summary="One release, by its digest or version",
        response_model=ReleaseDetail,
        responses=refusals(304, 404),
    )
    async def get_release(request: Request, namespace: str, name: str, release: str, caller: SignedIn) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        pinned, declared = await _release(parts, caller, server, release)
        knows = insider(caller, server)
        body = ReleaseDetail(
            **dict(release_entry(server, pinned)),
            server=str(server.name),
            tools=[tool_detail(tool, server) for tool in declared.tools] if knows else None,
            requested=lists(requested_of(declared)) if looks_after(parts, caller, server) else None,
        )
        return tagged(request, body, caller)


def _add_tools(router: APIRouter, parts: Parts) -> None:
    @router.get(
        f"{ONE}/tools",
        summary="The tools of a server that are listed for you, with their schemas",
        response_model=ToolList,
        responses=refusals(304, 404),
    )
    async def list_tools(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedTools, Query()]
    ) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        digest, tools = await _tools(parts, caller, server, asked)
        body = ToolList(
            server=str(server.name),
            release=digest,
            tools=[tool_detail(tool, server) for tool in tools],
            tools_digest=tools_digest(tools),
        )
        return tagged(request, body, caller)

    @router.get(
        f"{ONE}/tools/{{tool}}",
        summary="One tool that is listed for you",
        response_model=ToolDetail,
        responses=refusals(304, 404),
    )
    async def get_tool(
        request: Request,
        namespace: str,
        name: str,
        tool: str,
        caller: SignedIn,
        asked: Annotated[AskedFromSurface, Query()],
    ) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        everything = AskedTools(surface=asked.surface, all=insider(caller, server))
        _, tools = await _tools(parts, caller, server, everything)
        found = next((each for each in tools if each.name == tool), None)
        if found is None:
            raise _no_tool(server)
        return tagged(request, tool_detail(found, server), caller)


async def _tools(
    parts: Parts, caller: Caller, server: RegisteredServer, asked: AskedTools
) -> tuple[str | None, tuple[ToolDeclaration, ...]]:
    """The digest of a release, and those of its tools that are asked for."""
    if (asked.all or asked.release) and not insider(caller, server):
        field = "release" if asked.release else "all"
        raise _for_insiders(server, field)
    if asked.release:
        pinned, declared = await _release(parts, caller, server, asked.release)
        return pinned.digest, declared.tools
    digest = server.release.digest if server.release else None
    if asked.all:
        return digest, server.release.tools if server.release else ()
    there = at(caller, asked.surface)
    return digest, tuple(visible_tools(there, server, parts.public_url))


async def _release(parts: Parts, caller: Caller, server: RegisteredServer, named: str) -> tuple[Pinned, Release]:
    """A release by its digest or version.

    Raises:
        Refused: 404, there is none that this caller may know of.
    """
    name = str(server.name)
    async with parts.database.read() as connection:
        pinned = await releases.find_pinned(connection, name, named) if _could_name(named) else None
        if pinned is None or (pinned.deployed_at_ms is None and not looks_after(parts, caller, server)):
            message = f"{name} has no such release that you may know of."
            raise refuse(404, "unknown_release", message, "List its releases.")
        return pinned, await store.load_release(connection, name, pinned.digest)


def _could_name(text: str) -> bool:
    return len(text) <= 64 and text.isascii() and text.isprintable()


def requested_of(release: Release) -> Access:
    """What a release's author asks for."""
    asked = release.manifest.requests
    return Access(asked.business_groups, asked.surfaces, asked.channels, asked.services)


def _no_tool(server: RegisteredServer) -> Refused:
    message = f"No such tool of {server.name} here for you: it does not exist or you may not use it."
    mend = f"Ask {server.owner} in {server.support_channel}." if server.owner else "List its tools."
    return refuse(404, "tool_unavailable", message, mend)


def _for_insiders(server: RegisteredServer, field: str) -> Refused:
    ask = f"Ask {server.owner or 'the platform team'}, or somebody in security."
    message = f"{field}: All tools of {server.name}, and those of other releases, are for its owners and security."
    return refuse(403, "not_owner", message, ask)
