"""The pages. Each is a file of its own: a view, computed there, and a template that only shows it."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from pegboard_hub.web.pages.browser import visitor
from pegboard_hub.web.pages.explain import explain_routes
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import keep_fresh
from pegboard_hub.web.pages.home import home_routes
from pegboard_hub.web.pages.identity.clients import client_pages
from pegboard_hub.web.pages.identity.company import company_routes
from pegboard_hub.web.pages.identity.consent import consent_routes
from pegboard_hub.web.pages.identity.device import device_routes
from pegboard_hub.web.pages.identity.sessions import session_routes
from pegboard_hub.web.pages.identity.sign_in import sign_in_routes
from pegboard_hub.web.pages.ledger import ledger_routes
from pegboard_hub.web.pages.reviews.access import access_page_routes
from pegboard_hub.web.pages.reviews.reviews import review_routes
from pegboard_hub.web.pages.servers.browse import browse_routes
from pegboard_hub.web.pages.servers.draft import draft_routes
from pegboard_hub.web.pages.servers.history import history_routes
from pegboard_hub.web.pages.servers.server import server_routes
from pegboard_hub.web.pages.servers.try_tool import try_routes
from pegboard_hub.web.pages.team import team_routes
from pegboard_hub.web.parts import Parts


def page_routes(parts: Parts, framer: Framer) -> APIRouter:
    """The routes of all pages. Those of signing in are open to everybody; `Framer.allow` guards the others.

    What a page shows by groups, it shows by those that the login tells. One can take back what one has, and see where
    one is signed in, also while the login is away.
    """

    async def fresh(request: Request) -> None:
        if parts.identity.demo is None:
            await keep_fresh(parts, request)

    async def count(request: Request) -> None:
        """How many reviews wait for whoever looks, for the navigation."""
        session = visitor(request).session
        waiting = await parts.reviewing.waiting_for(session.facts) if session else ()
        request.state.reviews_waiting = len(waiting)

    router = APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[Depends(framer.browsers.visit), Depends(count)],
    )
    router.include_router(sign_in_routes(parts, framer))
    router.include_router(company_routes(parts, framer))
    allowed, by_groups = Depends(framer.allow), Depends(fresh)
    for routes in (
        home_routes,
        browse_routes,
        explain_routes,
        ledger_routes,
        server_routes,
        try_routes,
        draft_routes,
        team_routes,
        history_routes,
        consent_routes,
    ):
        router.include_router(routes(parts, framer), dependencies=[allowed, by_groups])
    for routes in (session_routes, device_routes, client_pages, review_routes, access_page_routes):
        router.include_router(routes(parts, framer), dependencies=[allowed])
    return router
