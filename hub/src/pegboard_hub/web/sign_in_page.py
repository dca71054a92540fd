"""Signing in and saying yes to a client, in the plainest form."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from pegboard_hub.web.parts import Parts


async def unanswerable(_request: Request, code: str, words: str) -> Response:
    """The answer to an authorization request that must not be sent back to its client."""
    return JSONResponse({"error": code, "error_description": words}, 400, {"Cache-Control": "no-store"})


def sign_in_routes(parts: Parts) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    identity = parts.identity

    @router.get("/sign-in")
    async def ask(request: Request) -> HTMLResponse:
        people = "".join(
            f'<button name="person" value="{escape(sub)}">{escape(person.name)}</button>'
            for sub, person in parts.sign_in.directory.people.items()
        )
        kept = escape(request.query_params.get("continue", "/"))
        return HTMLResponse(
            f'<form method="post"><input type="hidden" name="continue" value="{kept}">{people}</form>'
        )

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        _session, secret = await identity.sessions.open(parts.sign_in.sign_in(form["person"][0]), "a browser")
        response = RedirectResponse(form["continue"][0], 303)
        identity.cookie.set(response, secret, identity.sessions.lifetime_s)
        return response

    @router.get("/consent")
    async def show() -> HTMLResponse:
        return HTMLResponse('<form method="post"><button name="answer" value="allow">Allow</button></form>')

    @router.post("/consent")
    async def consent(request: Request) -> Response:
        session = await identity.sessions.find(identity.cookie.read(request))
        client = await identity.clients.get(request.query_params["client_id"])
        if session is None or client is None:
            return Response(status_code=400)
        scope = identity.issuer.scope_for(request.query_params["resource"], request.query_params.get("scope"))
        await identity.clients.consent(session.facts.sub, client.software, scope)
        return RedirectResponse(f"/oauth/authorize?{request.url.query}", 303)

    return router
