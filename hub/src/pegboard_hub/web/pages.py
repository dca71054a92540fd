"""The pages. Each is a file of its own: a view, computed there, and a template that only shows it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from pegboard_hub.web.explain_page import explain_routes
from pegboard_hub.web.frame import Framer
from pegboard_hub.web.home_page import home_routes
from pegboard_hub.web.ledger_page import ledger_routes
from pegboard_hub.web.parts import Parts


def page_routes(parts: Parts) -> APIRouter:
    """The routes of all pages."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    framer = Framer(parts)
    for routes in (home_routes, explain_routes, ledger_routes):
        router.include_router(routes(parts, framer))
    return router
