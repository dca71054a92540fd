"""The API's routes to approvals that the registry requires: which there are, and requiring one at once.

To require takes away, so a token is enough. What lets anybody get a yes more easily, and to lift, wants a person at a
browser (the server's page) or somebody at the machine: whoever holds a token, as an agent does, must not be able to.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.requiring.service import Who
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.requirements_view import (
    RequireBody,
    RequiredApproval,
    RequiredApprovals,
    RequirementHistory,
    require,
    required,
    requirement_history,
)

_BODY = {"tool": "prod/presto/drop_tables", "by": "owner", "why": "a table was dropped by mistake"}
_Server = Annotated[str, Query(max_length=255, description="NAMESPACE/NAME; only of this one")]


def add_required_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/approvals/required",
        summary="Tools that need an approval as the registry says: all for operators and security, else your own",
        responses=refusals(),
    )
    async def list_required_approvals(caller: SignedIn, server: _Server = "") -> RequiredApprovals:
        return await required(parts, _who(caller), server)

    @router.get(
        "/approvals/required/history",
        summary="What was required and lifted, by whom and why",
        responses=refusals(),
    )
    async def get_requirement_history(caller: SignedIn, server: _Server = "") -> RequirementHistory:
        return await requirement_history(parts, _who(caller), server)

    @router.post(
        "/approvals/required",
        summary="Have a tool wait for an approval, in under two seconds; it is lifted in a browser",
        status_code=201,
        responses=refusals(400, 404, 413),
        openapi_extra=body_of(RequireBody, {"tool": _BODY}),
    )
    async def require_approval(request: Request, caller: SignedIn) -> RequiredApproval:
        return await require(parts, _who(caller), await read_model(request, RequireBody))


def _who(caller: Caller) -> Who:
    if not is_person(caller):
        raise refuse(403, "access_denied", "A service requires nothing.", "Have a person do it.", "not_a_person")
    return Who.person(caller.sub, caller.groups)
