"""The rich API, version 1: what a signed-in caller may know of servers, access and calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.routing import BaseRoute

from pegboard.core.scopes import SCOPE_API, SCOPE_SUBMIT
from pegboard_hub.web.api.access import add_access_routes
from pegboard_hub.web.api.approvals import add_approval_routes
from pegboard_hub.web.api.auth import SignedIn, bearer
from pegboard_hub.web.api.clients import add_client_routes
from pegboard_hub.web.api.deployments import add_deployment_routes
from pegboard_hub.web.api.drafts import add_draft_routes
from pegboard_hub.web.api.edges import add_edge_routes
from pegboard_hub.web.api.ending import add_ending_routes
from pegboard_hub.web.api.explain import add_explain_routes
from pegboard_hub.web.api.health import add_health_routes
from pegboard_hub.web.api.history import add_history_routes
from pegboard_hub.web.api.impact import add_impact_routes
from pegboard_hub.web.api.ledger import add_ledger_routes
from pegboard_hub.web.api.logs import add_log_routes
from pegboard_hub.web.api.me import add_me_routes
from pegboard_hub.web.api.openapi import PREFIX, document, operation_id, refusals
from pegboard_hub.web.api.required import add_required_routes
from pegboard_hub.web.api.reviews import add_review_api_routes
from pegboard_hub.web.api.rules import add_rule_routes
from pegboard_hub.web.api.schema import WhoAmI
from pegboard_hub.web.api.servers import add_server_routes
from pegboard_hub.web.api.stops import add_stop_routes
from pegboard_hub.web.api.submissions import add_submission_routes
from pegboard_hub.web.api.surfaces import add_surface_routes
from pegboard_hub.web.api.teams import add_team_routes
from pegboard_hub.web.api.validate import add_validate_routes
from pegboard_hub.web.parts import Parts


def api_routes(parts: Parts) -> list[BaseRoute]:
    """The routes under `/api/v1`. Every one needs a token bound to the API."""
    revocations = parts.identity.revocations
    stops = parts.stops

    def signed_in(*scopes: str) -> Callable[[Request], Awaitable[None]]:
        known = (parts.api_tokens, parts.public_url, lambda: revocations.current, lambda: stops.current)
        return bearer(*known, scopes)

    people, publishers = signed_in(SCOPE_API), signed_in(SCOPE_API, SCOPE_SUBMIT)
    found: list[BaseRoute] = []
    for add, prefix, tag in SECTIONS:
        router = APIRouter(
            prefix=PREFIX + prefix,
            tags=[tag],
            dependencies=[Depends(publishers if add in OF_PUBLISHERS else people)],
            generate_unique_id_function=operation_id,
        )
        add(router, parts)
        found += router.routes
    return found


def _add_about_the_api(router: APIRouter, parts: Parts) -> None:
    @router.get("/whoami", summary="Who this token says you are", responses=refusals())
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


SECTIONS: tuple[tuple[Callable[[APIRouter, Parts], None], str, str], ...] = (
    (add_server_routes, "", "Servers"),
    (add_draft_routes, "", "Drafts"),
    (add_deployment_routes, "", "Deployments"),
    (add_ending_routes, "", "Servers"),
    (add_log_routes, "", "Deployments"),
    (add_history_routes, "", "History"),
    (add_me_routes, "/me", "Me"),
    (add_team_routes, "/teams", "Teams"),
    (add_validate_routes, "", "Access"),
    (add_explain_routes, "", "Access"),
    (add_access_routes, "", "Access"),
    (add_impact_routes, "", "Reviews"),
    (add_ledger_routes, "", "Calls"),
    (add_client_routes, "", "Clients"),
    (add_surface_routes, "", "Clients"),
    (add_health_routes, "", "Servers"),
    (add_review_api_routes, "", "Reviews"),
    # Before those of one request, whose path would take theirs.
    (add_required_routes, "", "Approvals"),
    (add_approval_routes, "", "Approvals"),
    (add_stop_routes, "", "Stops"),
    (add_rule_routes, "", "Rules"),
    (add_edge_routes, "", "Edges"),
    (add_submission_routes, "", "Releases"),
    (_add_about_the_api, "", "Me"),
)
"""What adds routes, with their prefix under the API's own and their tag in its description."""

OF_PUBLISHERS = (add_submission_routes,)
"""Those that services reach whose tokens submit and do nothing else."""
