"""The rich API, version 1: what a signed-in caller may know of servers, access and calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from pegboard.core.caller import Caller
from pegboard.core.decide import Decision
from pegboard.core.release import ToolDeclaration
from pegboard_hub.common.requests import request_id
from pegboard_hub.registry.explain import explain, reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import Health
from pegboard_hub.registry.walk import walk
from pegboard_hub.web.access_api import access_routes
from pegboard_hub.web.auth import SignedIn, bearer
from pegboard_hub.web.clients_api import client_routes
from pegboard_hub.web.health_api import health_routes
from pegboard_hub.web.impact_api import impact_routes
from pegboard_hub.web.ledger_api import ledger_routes
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import (
    LONGEST_TOOL,
    MOST_ARGUMENTS,
    Question,
    answer,
    find_server,
    read_arguments,
)
from pegboard_hub.web.reviews_api import review_api_routes
from pegboard_hub.web.schema import LONGEST, AccessAnswer, Explanation, Servers, ServerSummary, ToolSummary, WhoAmI

PersonSurface = Literal["cli", "chat", "bot", "ide", "web"]


def api_routes(parts: Parts) -> APIRouter:
    """The routes under `/api/v1`. Every one needs a token bound to the API."""
    revocations = parts.identity.revocations
    signed_in = bearer(parts.api_tokens, parts.public_url, lambda: revocations.current)
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(signed_in)])
    _add_registry_routes(router, parts)
    _add_explain_routes(router, parts)
    router.include_router(access_routes(parts))
    router.include_router(impact_routes(parts))
    router.include_router(ledger_routes(parts))
    router.include_router(client_routes(parts))
    router.include_router(health_routes(parts))
    router.include_router(review_api_routes(parts))

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        document: dict[str, Any] = request.app.openapi()
        return document

    return router


def _add_registry_routes(router: APIRouter, parts: Parts) -> None:
    @router.get("/whoami", summary="Who this token says you are")
    async def whoami(caller: SignedIn) -> WhoAmI:
        return WhoAmI(
            **{name: getattr(caller, name) for name in WhoAmI.model_fields if name != "groups"},
            groups=list(caller.groups),
        )

    @router.get("/servers", summary="The servers you may reach from here, with the tools you may see")
    async def servers(
        caller: SignedIn,
        surface: Annotated[PersonSurface | None, Query(description="as if you called from there")] = None,
    ) -> Servers:
        status = parts.status.read()
        if surface is not None and caller.sub_type == "person":
            caller = replace(caller, surface=surface, channel=None)
        reachable = [s for s in parts.registry.current.all_deployed if reaches(caller, s, parts.public_url)]
        return Servers(servers=[_summary(parts, caller, server, status.health(server)) for server in reachable])

    @router.get("/servers/{namespace}/{name}/access", summary="May you use this server?")
    async def access(request: Request, namespace: str, name: str, caller: SignedIn) -> AccessAnswer:
        server = find_server(parts, f"{namespace}/{name}")
        decision = explain(caller, server, None, parts.public_url, insider=False)
        return AccessAnswer(**_answer(request, server, decision))


def _add_explain_routes(router: APIRouter, parts: Parts) -> None:
    @router.get("/explain", summary="What would a call meet, rule by rule? Of others: for owners and security only")
    async def explanation(
        request: Request,
        caller: SignedIn,
        server: Annotated[str, Query(description="NAMESPACE/NAME")],
        tool: Annotated[str | None, Query(max_length=LONGEST_TOOL)] = None,
        person: str | None = None,
        service: Annotated[str | None, Query(description="SPIFFE ID; excludes person")] = None,
        surface: str | None = None,
        channel: str | None = None,
        arguments: Annotated[str | None, Query(max_length=MOST_ARGUMENTS, description="A JSON object")] = None,
        scope: Annotated[str | None, Query(max_length=LONGEST, description="Of the call's token; else tools")] = None,
    ) -> Explanation:
        given = None if arguments is None else read_arguments(arguments)
        question = Question(server, tool, person, service, surface, channel, given, scope)
        subject, found, decision = await answer(parts, caller, question)
        state, url = parts.status.read().state(found), found.name.resource_url(parts.public_url)
        return Explanation(
            **_answer(request, found, decision),
            person=subject.sub,
            surface=subject.surface,
            tool=tool,
            steps=[step._asdict() for step in walk(decision, found, tool, state, url)],
        )


def _summary(parts: Parts, caller: Caller, server: RegisteredServer, health: Health) -> ServerSummary:
    assert server.release is not None  # noqa: S101 - only deployed servers are reachable
    manifest = server.release.manifest
    tools = visible_tools(caller, server, parts.public_url)
    return ServerSummary(
        **{name: getattr(manifest, name) for name in ("title", "description", "owner", "support_channel")},
        server=str(server.name),
        sensitivity=manifest.sensitivity,
        release=server.release.digest,
        status=health.state,
        status_since=health.since_ms,
        status_why=health.why,
        stopped=server.stopped,
        resource_url=server.name.resource_url(parts.public_url),
        tools=[_tool_summary(tool, server) for tool in tools],
    )


def _tool_summary(tool: ToolDeclaration, server: RegisteredServer) -> ToolSummary:
    shown = tool.model_dump(include={"name", "title", "description", "minutes_saved"})
    return ToolSummary(**shown, stopped=server.stopped_tools.get(tool.name, ""))


def _answer(request: Request, server: RegisteredServer, decision: Decision) -> dict[str, Any]:
    refusal = decision.refusal.for_request(request_id(request)).as_json() if decision.refusal else None
    return {
        "server": str(server.name),
        "allowed": decision.allowed,
        "checks": [check._asdict() for check in decision.checks],
        "refusal": refusal,
    }
