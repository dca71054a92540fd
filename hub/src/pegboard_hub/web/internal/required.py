"""Required approvals at the internal door: the operator requires and lifts anything, also when nobody can sign in."""

from __future__ import annotations

from fastapi import APIRouter, Request

from pegboard_hub.requiring.errors import RequiringRefused
from pegboard_hub.requiring.service import MACHINE
from pegboard_hub.web.internal.operator import check_operator, read_model
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.requirements_view import (
    LiftBody,
    RequireBody,
    RequiredApproval,
    RequiredApprovals,
    RequirementHistory,
    require,
    required,
    requirement_history,
    requiring_refusal,
    told,
)


def required_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/approvals/required`."""
    router = APIRouter(prefix="/internal/v1/approvals/required", include_in_schema=False)

    @router.get("")
    async def look(request: Request) -> RequiredApprovals:
        check_operator(parts, request)
        return await required(parts, MACHINE)

    @router.get("/history")
    async def history(request: Request) -> RequirementHistory:
        check_operator(parts, request)
        return await requirement_history(parts, MACHINE)

    @router.post("")
    async def put(request: Request) -> RequiredApproval:
        check_operator(parts, request)
        return await require(parts, MACHINE, await read_model(request, RequireBody))

    @router.post("/lift")
    async def lift(request: Request) -> RequiredApproval:
        check_operator(parts, request)
        body = await read_model(request, LiftBody)
        try:
            standing = await parts.requiring.lift(MACHINE, body.tool, body.why)
        except RequiringRefused as error:
            raise requiring_refusal(error) from error
        return (await told(parts, [standing]))[0].model_copy(update={"notes": []})

    return router
