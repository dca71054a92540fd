"""The API's route to a server's health: from memory, with its history from the tables."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from pegboard.core.names import ServerName
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import ProbedState, ServerState
from pegboard_hub.registry.visibility import unpublished
from pegboard_hub.web.auth import SignedIn
from pegboard_hub.web.openapi import refusals
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


def health_routes(parts: Parts) -> APIRouter:
    """The route; whoever includes it sees to the sign-in."""
    router = APIRouter(tags=["Servers"])

    @router.get(
        "/servers/{namespace}/{name}/health",
        summary="How is this server doing, since when, and why?",
        responses=refusals(404),
    )
    async def get_health(
        _caller: SignedIn,
        namespace: str,
        name: str,
        limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 20,
        cursor: Annotated[str | None, Query(max_length=32, description="`next` of the page before")] = None,
    ) -> ServerHealth:
        server = shown_to_everybody(parts, f"{namespace}/{name}")
        entries = await parts.health.history(str(server.name), _before(cursor), limit + 1)
        status = parts.status.read()
        found = status.health(server)
        return ServerHealth(
            server=str(server.name),
            state=found.state,
            since=found.since_ms,
            why=found.why,
            checked_at=found.checked_at_ms,
            prober=status.prober.standing,
            transitions=[HealthTransition(at=e.at_ms, state=e.state, why=e.why) for e in entries[:limit]],
            next=str(entries[limit - 1].at_ms) if len(entries) > limit else None,
        )

    return router


def shown_to_everybody(parts: Parts, name: str) -> RegisteredServer:
    """The server of that name, if it is one that every signed-in person may know of: any that was published.

    Raises:
        Refused: there is none; a draft answers as one that is not there.
    """
    try:
        server = parts.registry.current.servers.get(str(ServerName.parse(name)))
    except ValueError:
        server = None
    if server is None or unpublished(server):
        message = f"No server {name[:65]} is registered here."
        raise refuse(404, "unknown_server", message, "List the servers, or ask the platform team to register it.")
    return server


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
        what = "cursor: it is not one that this address gave."
        raise refuse(422, "invalid_request", what, "Send `next` of the page before, or none for the first page.")
    return int(cursor)
