"""The API's route to a server's health: from memory, with its history from the tables."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from pegboard_hub.registry.status import ProbedState, ServerState
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.knowing import known_server
from pegboard_hub.web.paging import AskedPage, cursor_of, place_of
from pegboard_hub.web.parts import Parts

MOST_ENTRIES = 100


class HealthTransition(BaseModel):
    """One change of a server's health, as the prober told it."""

    at: int = Field(description="milliseconds since the epoch")
    state: ProbedState
    why: str = Field(description="why it was not live; empty when it was")


class ServerHealth(BaseModel):
    """How a server is doing. Times are milliseconds since the epoch; null where nobody says."""

    server: str
    state: ServerState
    since: int | None
    why: str = Field(description="why it is not live; empty when it is")
    checked_at: int | None = Field(description="when the prober last looked at it")
    prober: Literal["awaited", "reporting", "silent"] = Field(description="whether the hub hears of the prober")
    transitions: list[HealthTransition] = Field(description="what it was before, newest first")
    next: str | None = Field(description="cursor of the next page of transitions; null where there is none")


class AskedHealth(AskedPage):
    """Which part of the transitions."""

    limit: int = Field(default=20, ge=1, le=MOST_ENTRIES, description="most transitions of this page")


def add_health_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""

    @router.get(
        "/servers/{namespace}/{name}/health",
        summary="How is this server doing, since when, and why?",
        response_model=ServerHealth,
        responses=refusals(304, 400, 404),
    )
    async def get_health(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedHealth, Query()]
    ) -> Response:
        server = known_server(parts, caller, f"{namespace}/{name}")
        of = f"/health {server.name}"
        before = place_of(parts.cursors, asked.cursor, caller, of, asked)
        entries = await parts.health.history(str(server.name), before, asked.limit + 1)
        shown, status = entries[: asked.limit], parts.status.read()
        found = status.standing(server)
        more = len(entries) > len(shown)
        body = ServerHealth(
            server=str(server.name),
            state=found.state,
            since=found.since_ms,
            why=found.why,
            checked_at=found.checked_at_ms,
            prober=status.prober.standing,
            transitions=[HealthTransition(at=e.at_ms, state=e.state, why=e.why) for e in shown],
            next=cursor_of(parts.cursors, shown[-1].at_ms, caller, of, asked) if more else None,
        )
        return tagged(request, body, caller)
