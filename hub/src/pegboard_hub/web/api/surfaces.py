"""The API's routes to surfaces that act for people: which there are, for whom they acted, and removing one at once.

To remove only takes away, so an operator's token is enough. To register and to change may widen access, and want a
person at a browser (the page /surfaces) or somebody at the machine.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pegboard.core.caller import Caller
from pegboard_hub.identity.surfaces.errors import SurfaceRefused
from pegboard_hub.identity.surfaces.model import By
from pegboard_hub.identity.surfaces.service import LONGEST_WHY
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.knowing import not_an_operator
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.surfaces_view import (
    ExchangeEntry,
    ExchangesAnswer,
    SurfaceEntry,
    SurfacesAnswer,
    surface_refusal,
)


def add_surface_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""
    surfaces = parts.identity.surfaces

    def check(caller: Caller) -> None:
        if not is_person(caller) or not parts.identity.clients.may_look_after(caller.groups):
            raise not_an_operator(parts)

    @router.get("/surfaces", summary="Surfaces that act for people; for operators only", responses=refusals())
    async def list_surfaces(caller: SignedIn) -> SurfacesAnswer:
        check(caller)
        return SurfacesAnswer(surfaces=[SurfaceEntry.of(each) for each in surfaces.current.values()])

    @router.get(
        "/surfaces/{client_id}/exchanges",
        summary="For whom a surface acted, and what was refused, newest first; for operators only",
        responses=refusals(),
    )
    async def list_exchanges(caller: SignedIn, client_id: str) -> ExchangesAnswer:
        check(caller)
        return ExchangesAnswer(exchanges=[ExchangeEntry.of(each) for each in await surfaces.exchanges(client_id)])

    @router.delete(
        "/surfaces/{client_id}",
        summary="Remove a surface: what it has is void at once; for operators only",
        responses=refusals(404),
    )
    async def remove_surface(
        caller: SignedIn,
        client_id: str,
        why: Annotated[str, Query(min_length=1, max_length=LONGEST_WHY, description="for the history")],
    ) -> SurfaceEntry:
        check(caller)
        try:
            return SurfaceEntry.of(await surfaces.remove(By(caller.sub), client_id, why))
        except SurfaceRefused as error:
            raise surface_refusal(error) from error
