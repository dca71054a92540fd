"""The API's routes that explain: may one use a server, and what a call would meet, rule by rule."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from pegboard.core.decide import Decision
from pegboard_hub.common.requests import request_id
from pegboard_hub.registry.explain import explain
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.walk import walk
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import AccessAnswer, Explanation
from pegboard_hub.web.api.views import approvals
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import (
    LONGEST,
    LONGEST_TOOL,
    MOST_ARGUMENTS,
    Question,
    answer,
    find_server,
    read_arguments,
)


def add_explain_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes that explain; the router sees to the sign-in."""

    @router.get("/servers/{namespace}/{name}/access", summary="May you use this server?", responses=refusals(404))
    async def get_access(request: Request, namespace: str, name: str, caller: SignedIn) -> AccessAnswer:
        server = find_server(parts, f"{namespace}/{name}")
        decision = explain(
            caller,
            server,
            None,
            parts.public_url,
            insider=False,
            stops=parts.stops.current,
            rules=parts.rules.current.of(server.name),
        )
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
            approvals=approvals(found, tool, decision),
            steps=[step._asdict() for step in walk(decision, found, tool, state, url)],
        )


def _answer(request: Request, server: RegisteredServer, decision: Decision) -> dict[str, Any]:
    refusal = decision.refusal.for_request(request_id(request)).as_json() if decision.refusal else None
    return {
        "server": str(server.name),
        "allowed": decision.allowed,
        "checks": [check._asdict() for check in decision.checks],
        "refusal": refusal,
    }
