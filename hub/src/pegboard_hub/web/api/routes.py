"""The rich API, version 1: what a signed-in caller may know of servers, access and calls."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request

from pegboard_hub.web.api.access import access_routes
from pegboard_hub.web.api.auth import SignedIn, bearer
from pegboard_hub.web.api.clients import client_routes
from pegboard_hub.web.api.drafts import draft_routes
from pegboard_hub.web.api.explain import explain_routes
from pegboard_hub.web.api.health import health_routes
from pegboard_hub.web.api.history import history_routes
from pegboard_hub.web.api.impact import impact_routes
from pegboard_hub.web.api.ledger import ledger_routes
from pegboard_hub.web.api.me import me_routes
from pegboard_hub.web.api.openapi import PREFIX, document, operation_id, refusals
from pegboard_hub.web.api.reviews import review_api_routes
from pegboard_hub.web.api.schema import WhoAmI
from pegboard_hub.web.api.servers import server_routes
from pegboard_hub.web.api.teams import team_routes
from pegboard_hub.web.api.validate import validate_routes
from pegboard_hub.web.parts import Parts


def api_routes(parts: Parts) -> APIRouter:
    """The routes under `/api/v1`. Every one needs a token bound to the API."""
    revocations = parts.identity.revocations
    signed_in = bearer(parts.api_tokens, parts.public_url, lambda: revocations.current)
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(signed_in)], generate_unique_id_function=operation_id)
    for routes in (
        server_routes,
        draft_routes,
        history_routes,
        me_routes,
        team_routes,
        validate_routes,
        explain_routes,
        access_routes,
        impact_routes,
        ledger_routes,
        client_routes,
        health_routes,
        review_api_routes,
    ):
        router.include_router(routes(parts))

    @router.get("/whoami", summary="Who this token says you are", tags=["Me"], responses=refusals())
    async def who_am_i(caller: SignedIn) -> WhoAmI:
        return WhoAmI(
            **{name: getattr(caller, name) for name in WhoAmI.model_fields if name != "groups"},
            groups=list(caller.groups),
        )

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        kept: dict[str, Any] | None = getattr(request.app.state, "api_document", None)
        if kept is None:
            kept = request.app.state.api_document = document(request.app, parts.public_url)
        return kept

    return router
