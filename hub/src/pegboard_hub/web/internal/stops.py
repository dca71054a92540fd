"""Stops at the internal door: the operator stops and resumes anything, also when nobody can sign in."""

from __future__ import annotations

from fastapi import APIRouter, Request

from pegboard_hub.stopping.errors import StopRefused
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.internal.operator import check_operator, read_model
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.stops_view import ResumeBody, StopBody, StopEntry, StopsAnswer, stop_refusal


def stop_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/stops`."""
    router = APIRouter(prefix="/internal/v1/stops", include_in_schema=False)

    @router.get("")
    async def look(request: Request) -> StopsAnswer:
        check_operator(parts, request)
        return StopsAnswer(stops=[StopEntry.of(stop) for stop in await parts.stopping.listed(MACHINE)])

    @router.post("")
    async def stop(request: Request) -> StopEntry:
        check_operator(parts, request)
        body = await read_model(request, StopBody)
        try:
            return StopEntry.of(await parts.stopping.stop(MACHINE, body.kind, body.name, body.why, body.until))
        except StopRefused as error:
            raise stop_refusal(error) from error

    @router.post("/resume")
    async def resume(request: Request) -> StopEntry:
        check_operator(parts, request)
        body = await read_model(request, ResumeBody)
        try:
            return StopEntry.of(await parts.stopping.resume(MACHINE, body.kind, body.name, body.why))
        except StopRefused as error:
            raise stop_refusal(error) from error

    return router
