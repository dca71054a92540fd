"""Registered surfaces at the internal door: the operator registers, changes and removes them at the machine."""

from __future__ import annotations

from collections.abc import Awaitable

from fastapi import APIRouter, Request

from pegboard_hub.identity.surfaces.errors import SurfaceRefused
from pegboard_hub.identity.surfaces.model import ActingSurface, By
from pegboard_hub.web.internal.operator import check_operator, read_model
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.surfaces_view import (
    ExchangeEntry,
    ExchangesAnswer,
    RemoveBody,
    SurfaceBody,
    SurfaceEntry,
    SurfaceEvent,
    SurfaceHistory,
    SurfacesAnswer,
    surface_refusal,
)

MACHINE = By("operator", "operator")


def surface_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/surfaces`."""
    router = APIRouter(prefix="/internal/v1/surfaces", include_in_schema=False)
    surfaces = parts.identity.surfaces

    @router.get("")
    async def look(request: Request) -> SurfacesAnswer:
        check_operator(parts, request)
        return SurfacesAnswer(surfaces=[SurfaceEntry.of(each) for each in surfaces.current.values()])

    @router.get("/history")
    async def history(request: Request, surface: str | None = None) -> SurfaceHistory:
        check_operator(parts, request)
        return SurfaceHistory(events=[SurfaceEvent.of(each) for each in await surfaces.history(surface)])

    @router.get("/exchanges")
    async def exchanges(request: Request, surface: str) -> ExchangesAnswer:
        check_operator(parts, request)
        return ExchangesAnswer(exchanges=[ExchangeEntry.of(each) for each in await surfaces.exchanges(surface)])

    @router.post("/register")
    async def register(request: Request) -> SurfaceEntry:
        check_operator(parts, request)
        body = await read_model(request, SurfaceBody)
        return await _done(_registered(body))

    @router.post("/change")
    async def change(request: Request) -> SurfaceEntry:
        check_operator(parts, request)
        body = await read_model(request, SurfaceBody)
        return await _done(_changed(body))

    @router.post("/remove")
    async def remove(request: Request) -> SurfaceEntry:
        check_operator(parts, request)
        body = await read_model(request, RemoveBody)
        return await _done(surfaces.remove(MACHINE, body.client_id, body.why))

    async def _registered(body: SurfaceBody) -> ActingSurface:
        return await surfaces.register(MACHINE, body.read(), body.why)

    async def _changed(body: SurfaceBody) -> ActingSurface:
        known = surfaces.current.get(body.client_id)
        # Without keys it keeps those that it has: nobody has to find a key again to change a limit.
        asked = body if body.jwks or known is None else body.model_copy(update={"jwks": known.jwks})
        return await surfaces.change(MACHINE, asked.read(), body.why, body.version)

    return router


async def _done(doing: Awaitable[ActingSurface]) -> SurfaceEntry:
    try:
        return SurfaceEntry.of(await doing)
    except SurfaceRefused as error:
        raise surface_refusal(error) from error
