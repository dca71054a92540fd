"""The authorization endpoint (RFC 6749 §3.1): `GET /oauth/authorize`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlsplit

from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.provider import construct_redirect_uri
from starlette.requests import Request
from starlette.responses import Response

from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.forms import single
from pegboard_hub.identity.oauth.provider import Asked, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer

Explain = Callable[[Request, str, str], Awaitable[Response]]
"""Makes the page for a request that must not be sent back to the client, from the error's code and words."""


def authorize_endpoint(server: AuthorizationServer, explain: Explain) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint."""

    async def authorize(request: Request) -> Response:
        try:
            form = single(parse_qsl(request.url.query, keep_blank_values=True))
        except (OAuthRefused, ValueError) as error:
            words = error.description if isinstance(error, OAuthRefused) else "the query cannot be read"
            return await explain(request, "invalid_request", words)
        asked = Asked(
            query=request.url.query,
            session=await server.sessions.find(server.cookie.read(request)),
            redirect_uri=form.get("redirect_uri"),
        )
        response = await AuthorizationHandler(Provider(server, asked)).handle(request)
        if response.status_code == 302:
            return _named(response, server.public_url)
        # The client or its redirect is not known, so nothing may be sent there (RFC 6749 §4.1.2.1).
        refusal = json.loads(bytes(response.body))
        words = await server.clients.why_not(form.get("client_id", "")) or refusal.get("error_description") or ""
        return await explain(request, refusal["error"], words)

    return authorize


def _named(response: Response, issuer: str) -> Response:
    """An error that goes back to the client says whose it is, as a code does (RFC 9207 §2)."""
    location = response.headers["location"]
    query = dict(parse_qsl(urlsplit(location).query))
    if "error" in query and "iss" not in query and not location.startswith(f"{issuer}/"):
        response.headers["location"] = construct_redirect_uri(location, iss=issuer)
    return response
