"""The rich API, version 1: what a signed-in caller may know of servers, access and calls."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from pegboard.core.decide import Decision
from pegboard_hub.common.requests import request_id
from pegboard_hub.registry.explain import explain
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.walk import walk
from pegboard_hub.web.api.access import access_routes
from pegboard_hub.web.api.auth import SignedIn, bearer
from pegboard_hub.web.api.clients import client_routes
from pegboard_hub.web.api.drafts import draft_routes
from pegboard_hub.web.api.health import health_routes
from pegboard_hub.web.api.history import history_routes
from pegboard_hub.web.api.impact import impact_routes
from pegboard_hub.web.api.ledger import ledger_routes
from pegboard_hub.web.api.me import me_routes
from pegboard_hub.web.api.openapi import PREFIX, document, operation_id, refusals
from pegboard_hub.web.api.reviews import review_api_routes
from pegboard_hub.web.api.schema import LONGEST, AccessAnswer, Explanation, WhoAmI
from pegboard_hub.web.api.servers import server_routes
from pegboard_hub.web.api.teams import team_routes
from pegboard_hub.web.api.validate import validate_routes
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import (
    LONGEST_TOOL,
    MOST_ARGUMENTS,
    Question,
    answer,
    find_server,
    read_arguments,
)


def api_routes(parts: Parts) -> APIRouter:
    """The routes under `/api/v1`. Every one needs a token bound to the API."""
    revocations = parts.identity.revocations
    signed_in = bearer(parts.api_tokens, parts.public_url, lambda: revocations.current)
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(signed_in)], generate_unique_id_function=operation_id)
    for routes in (
        server_routes,
        draft_routes,
        history_routes,
        me_routes,
        team_routes,
        validate_routes,
        explain_routes,
        access_routes,
        impact_routes,
        ledger_routes,
        client_routes,
        health_routes,
        review_api_routes,
    ):
        router.include_router(routes(parts))

    @router.get("/whoami", summary="Who this token says you are", tags=["Me"], responses=refusals())
    async def who_am_i(caller: SignedIn) -> WhoAmI:
        return WhoAmI(
            **{name: getattr(caller, name) for name in WhoAmI.model_fields if name != "groups"},
            groups=list(caller.groups),
        )

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        kept: dict[str, Any] | None = getattr(request.app.state, "api_document", None)
        if kept is None:
            kept = request.app.state.api_document = document(request.app, parts.public_url)
        return kept

    return router


def explain_routes(parts: Parts) -> APIRouter:
    """The routes that explain; whoever includes them sees to the sign-in."""
    router = APIRouter(tags=["Access"])

    @router.get("/servers/{namespace}/{name}/access", summary="May you use this server?", responses=refusals(404))
    async def get_access(request: Request, namespace: str, name: str, caller: SignedIn) -> AccessAnswer:
        server = find_server(parts, f"{namespace}/{name}")
        decision = explain(caller, server, None, parts.public_url, insider=False)
        return AccessAnswer(**_answer(request, server, decision))

    @router.get(
        "/explain",
        summary="What would a call meet, rule by rule? Of others: for owners and security only",
        responses=refusals(404),
    )
    async def explain_call(
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

    return router


def _answer(request: Request, server: RegisteredServer, decision: Decision) -> dict[str, Any]:
    refusal = decision.refusal.for_request(request_id(request)).as_json() if decision.refusal else None
    return {
        "server": str(server.name),
        "allowed": decision.allowed,
        "checks": [check._asdict() for check in decision.checks],
        "refusal": refusal,
    }
