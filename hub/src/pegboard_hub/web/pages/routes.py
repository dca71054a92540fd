"""The pages. Each is a file of its own: a view, computed there, and a template that only shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from starlette.routing import BaseRoute

from pegboard_hub.web.pages.approvals.inbox import add_inbox_routes
from pegboard_hub.web.pages.approvals.looking import reader_of
from pegboard_hub.web.pages.approvals.request import add_request_routes
from pegboard_hub.web.pages.browser import visitor
from pegboard_hub.web.pages.edges import add_edge_pages
from pegboard_hub.web.pages.explain import add_explain_routes
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import keep_fresh
from pegboard_hub.web.pages.home import add_home_routes
from pegboard_hub.web.pages.identity.acting import add_acting_routes
from pegboard_hub.web.pages.identity.clients import add_client_pages
from pegboard_hub.web.pages.identity.company import add_company_routes
from pegboard_hub.web.pages.identity.consent import add_consent_routes
from pegboard_hub.web.pages.identity.device import add_device_routes
from pegboard_hub.web.pages.identity.sessions import add_session_routes
from pegboard_hub.web.pages.identity.sign_in import add_sign_in_routes
from pegboard_hub.web.pages.identity.surfaces import add_surface_pages
from pegboard_hub.web.pages.ledger import add_ledger_routes
from pegboard_hub.web.pages.reviews.access import add_access_page_routes
from pegboard_hub.web.pages.reviews.reviews import add_review_routes
from pegboard_hub.web.pages.rules import add_rule_pages
from pegboard_hub.web.pages.servers.browse import add_browse_routes
from pegboard_hub.web.pages.servers.deployment import add_deployment_pages
from pegboard_hub.web.pages.servers.draft import add_draft_routes
from pegboard_hub.web.pages.servers.history import add_history_routes
from pegboard_hub.web.pages.servers.logs import add_log_pages
from pegboard_hub.web.pages.servers.requiring import add_requiring_routes
from pegboard_hub.web.pages.servers.server import add_server_routes
from pegboard_hub.web.pages.servers.submission import add_submission_pages
from pegboard_hub.web.pages.servers.try_tool import add_try_routes
from pegboard_hub.web.pages.stops import add_stop_pages
from pegboard_hub.web.pages.team import add_team_routes
from pegboard_hub.web.parts import Parts


def page_routes(parts: Parts, framer: Framer) -> list[BaseRoute]:
    """The routes of all pages. Those of signing in are open to everybody; `Framer.allow` guards the others.

    What a page shows by groups, it shows by those that the login tells. One can take back what one has, and see where
    one is signed in, also while the login is away.
    """

    async def fresh(request: Request) -> None:
        await keep_fresh(parts, request)

    async def fresh_of_a_company(request: Request) -> None:
        if parts.identity.demo is None:
            await keep_fresh(parts, request)

    async def count(request: Request) -> None:
        """How many reviews and approvals wait for whoever looks, for the navigation."""
        session = visitor(request).session
        waiting = await parts.reviewing.waiting_for(session.facts) if session else ()
        approvals = await parts.approvals.waiting(reader_of(parts, session)) if session else 0
        request.state.waiting = {"/reviews": len(waiting), "/approvals": approvals}

    guards: dict[Guard, tuple[Callable[..., Any], ...]] = {
        "open": (),
        "signed in": (framer.allow, framer.going),
        "groups of now": (framer.allow, framer.going, fresh_of_a_company),
        "decides": (framer.allow, framer.going, fresh),
    }
    found: list[BaseRoute] = []
    for guard, additions in PAGES.items():
        router = APIRouter(
            include_in_schema=False,
            default_response_class=HTMLResponse,
            dependencies=[Depends(each) for each in (framer.browsers.visit, count, *guards[guard])],
        )
        for add in additions:
            add(router, parts, framer)
        found += router.routes
    return found


Guard = Literal["open", "signed in", "groups of now", "decides"]

PAGES: dict[Guard, tuple[Callable[[APIRouter, Parts, Framer], None], ...]] = {
    "open": (add_sign_in_routes, add_company_routes),
    "groups of now": (
        add_home_routes,
        add_browse_routes,
        add_explain_routes,
        add_ledger_routes,
        add_server_routes,
        add_requiring_routes,
        add_deployment_pages,
        add_submission_pages,
        add_log_pages,
        add_try_routes,
        add_draft_routes,
        add_team_routes,
        add_history_routes,
        add_consent_routes,
        add_acting_routes,
    ),
    "signed in": (
        add_session_routes,
        add_device_routes,
        add_client_pages,
        add_surface_pages,
        add_stop_pages,
        add_rule_pages,
        add_edge_pages,
    ),
    "decides": (add_inbox_routes, add_request_routes, add_review_routes, add_access_page_routes),
}
"""What adds pages, by who may see them."""
