"""Coarse rules at the internal door: the operator looks at them and changes them, also when nobody can sign in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.internal.operator import check_operator, read_model
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.rules_view import (
    BODY_LIMIT,
    MOST_LISTED,
    ApplyBody,
    ChangeBody,
    DifferenceAnswer,
    PreviewAnswer,
    RulesAnswer,
    RulesFileAnswer,
    VersionEntry,
    VersionsAnswer,
    apply,
    differing,
    file_of,
    listed,
    previewed,
    propose,
)


def rule_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/rules`: the API's own, by the operator's credential, which may also widen."""
    router = APIRouter(prefix="/internal/v1", include_in_schema=False)

    @router.get("/rules")
    async def look(
        request: Request, server: str = "", after: str = "", limit: Annotated[int, Query(ge=1)] = MOST_LISTED
    ) -> RulesAnswer:
        check_operator(parts, request)
        return listed(parts.ruling.kept, server, after, min(limit, MOST_LISTED))

    @router.get("/rules/file")
    async def file(request: Request, version: int | None = None) -> RulesFileAnswer:
        check_operator(parts, request)
        return await file_of(parts, version)

    @router.get("/rules/history")
    async def history(request: Request) -> VersionsAnswer:
        check_operator(parts, request)
        return VersionsAnswer(versions=[VersionEntry.of(made) for made in await parts.ruling.history()])

    @router.get("/rules/difference")
    async def difference(request: Request, old: int | None = None, new: int | None = None) -> DifferenceAnswer:
        check_operator(parts, request)
        return await differing(parts, old, new)

    @router.post("/rules:preview")
    async def preview(request: Request) -> PreviewAnswer:
        check_operator(parts, request)
        return await previewed(parts, await propose(parts, await read_model(request, ChangeBody, BODY_LIMIT)))

    @router.post("/rules")
    async def change(request: Request) -> VersionEntry:
        check_operator(parts, request)
        return await apply(parts, await read_model(request, ApplyBody, BODY_LIMIT), MACHINE.actor, widening=True)

    return router
