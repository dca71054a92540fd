"""The authorization endpoint (RFC 6749 §3.1): `GET /oauth/authorize`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.provider import construct_redirect_uri
from starlette.requests import Request
from starlette.responses import Response

from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.forms import Form, single
from pegboard_hub.identity.oauth.provider import Asked, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer

LONGEST_QUERY = 8 * 1024
"""Characters of an authorization request. It comes back encoded once more on the way through the sign-in page."""

LONGEST_KEPT = 2400
"""Characters of one that is kept while its person signs in at the company: the way back lies in a cookie."""

Explain = Callable[[Request, str, str], Awaitable[Response]]
"""Makes the page for a request that must not be sent back to the client, from the error's code and words."""


Confirm = Callable[[Request, str], Awaitable[Response]]
"""Makes the page from which a person goes on to an address of ours by a click of their own."""

TOO_LONG_TO_KEEP = (
    f"the query is longer than the {LONGEST_KEPT} characters that can be kept while you sign in; sign in first, and "
    "then connect again"
)


def authorize_endpoint(
    server: AuthorizationServer, explain: Explain, confirm: Confirm
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint."""

    async def authorize(request: Request) -> Response:
        if request.method != "GET":
            return Response(status_code=405, headers={"Allow": "GET"})
        try:
            form = _parameters(request)
        except OAuthRefused as refused:
            return await explain(request, refused.code, refused.description)
        session = await server.sessions.find(server.cookie.read(request))
        if session is None and len(request.url.query) > LONGEST_KEPT:
            return await explain(request, "invalid_request", TOO_LONG_TO_KEEP)
        if session is not None and led_here(request, form, server.public_url):
            return await confirm(request, f"{request.url.path}?{request.url.query}")
        asked = Asked(request.url.query, form, session)
        response = await AuthorizationHandler(Provider(server, asked)).handle(request)
        if response.status_code == 302:
            return _named(response, server.public_url)
        # The client or its redirect is not known, so nothing may be sent there (RFC 6749 §4.1.2.1).
        refusal = json.loads(bytes(response.body))
        words = await server.clients.why_not(form.get("client_id", "")) or refusal.get("error_description") or ""
        return await explain(request, refusal["error"], words)

    return authorize


def led_here(request: Request, form: Mapping[str, str], public_url: str) -> bool:
    """Whether a page of somebody else led a person here, for an answer that whatever listens on their machine gets.

    Silence would then connect whoever made the page and has a program there, in the name of a client that is trusted
    (RFC 8252 §8.6). Clients on the person's machine open the browser themselves, and it says so (`none`).
    """
    # Other names of the company's domain are the same site, and others serve them. On one machine every port is of
    # one site, and a client's own page is there too.
    elsewhere = ("cross-site",) if is_loopback(public_url) else ("cross-site", "same-site")
    return request.headers.get("sec-fetch-site") in elsewhere and not form.get("redirect_uri", "").startswith(
        "https://"
    )


def _parameters(request: Request) -> Form:
    """The request's parameters.

    Raises:
        OAuthRefused: they cannot be read, or no person opened this address.
    """
    # An image or a frame of another page of this site brings the session's cookie too (RFC 6265bis §5.2). Programs
    # and old browsers do not send this header.
    if request.headers.get("sec-fetch-dest", "document") != "document":
        words = "open this address in a window of the browser; in a frame or as part of a page it connects nothing"
        raise OAuthRefused("invalid_request", words)
    if len(request.url.query) > LONGEST_QUERY:
        raise OAuthRefused("invalid_request", f"the query is longer than {LONGEST_QUERY} characters")
    return single(parse_qsl(request.url.query, keep_blank_values=True))


def _named(response: Response, issuer: str) -> Response:
    """An error that goes back to the client says whose it is, as a code does (RFC 9207 §2)."""
    location = response.headers["location"]
    query = dict(parse_qsl(urlsplit(location).query))
    if "error" in query and "iss" not in query and not location.startswith(f"{issuer}/"):
        response.headers["location"] = construct_redirect_uri(location, iss=issuer)
    return response
