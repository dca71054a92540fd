"""The API's route to the edges: how each is. They are added and removed at the machine."""

from __future__ import annotations

from fastapi import APIRouter

from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.edges_view import NOT_THEIRS, EdgesAnswer, edge_entries
from pegboard_hub.web.parts import Parts


def add_edge_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""

    @router.get("/edges", summary="How is each edge? For operators and security", responses=refusals())
    async def list_edges(caller: SignedIn) -> EdgesAnswer:
        if not is_person(caller) or not parts.stopping.governs(Who.person(caller.sub, caller.groups)):
            raise refuse(403, "access_denied", *NOT_THEIRS, "not_an_operator")
        return EdgesAnswer(edges=edge_entries(parts))
