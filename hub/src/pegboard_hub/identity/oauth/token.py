"""The token endpoint (RFC 6749 §3.2): `POST /oauth/token`, a table of grants."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping

from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.common.requests import SPIFFE_HEADER
from pegboard_hub.identity.demo import DEMO_GRANT, DemoSignIn
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.answers import NO_STORE
from pegboard_hub.identity.oauth.exchange import EXCHANGE_GRANT, authenticated, exchanged
from pegboard_hub.identity.oauth.forms import Form, basic, read_form
from pegboard_hub.identity.oauth.provider import NOT_KEPT, Asked, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636 §4.1. A short one can be guessed from its challenge, which the browser's history keeps."""

SERVICE_GRANT = "client_credentials"
"""The grant of services (`services.py`), and the only one at their port."""

Grant = Callable[[Request, Form], Awaitable[Response]]
"""Answers a token request of one `grant_type`."""


def token_endpoint(
    server: AuthorizationServer, more: Mapping[str, Grant]
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint.

    Args:
        server: the parts.
        more: grants beside the SDK's and the demo directory's.
    """

    async def exchange(request: Request, form: Form) -> Response:
        return await exchanged(server, request, form)

    grants: dict[str, Grant] = {
        "authorization_code": _sdk(server),
        "refresh_token": _sdk(server),
        EXCHANGE_GRANT: exchange,
        **more,
    }
    if server.demo is not None:
        grants[DEMO_GRANT] = _demo(server.demo, server.public_url)

    async def token(request: Request) -> Response:
        try:
            form, request = await read_form(request)
            if SPIFFE_HEADER in request.headers and form.needed("grant_type") != SERVICE_GRANT:
                raise OAuthRefused("unauthorized_client", f"services have {SERVICE_GRANT}, and no other grant")
            grant = grants.get(form.needed("grant_type"))
            if grant is None:
                raise OAuthRefused("unsupported_grant_type", f"grant_type must be one of {', '.join(grants)}")
            return challenged(request, await grant(request, form))
        except OAuthRefused as refused:
            return refusal(refused)
        except StorageUnavailable:
            return refusal(OAuthRefused("temporarily_unavailable", NOT_KEPT))

    return token


def refusal(refused: OAuthRefused) -> JSONResponse:
    """An error of the token endpoint (RFC 6749 §5.2); 503 where the company's login does not answer, or the disk."""
    status = {"invalid_client": 401, "temporarily_unavailable": 503}.get(refused.code, 400)
    return JSONResponse({"error": refused.code, "error_description": refused.description}, status, NO_STORE)


def challenged(request: Request, response: Response) -> Response:
    """A client that tried a header is told which header would do (RFC 6749 §5.2)."""
    if response.status_code == 401 and "authorization" in request.headers:
        response.headers["WWW-Authenticate"] = 'Basic realm="pegboard", charset="UTF-8"'
    return response


def _sdk(server: AuthorizationServer) -> Grant:
    async def exchange(request: Request, form: Form) -> Response:
        if form["grant_type"] == "authorization_code" and not VERIFIER.fullmatch(form.needed("code_verifier")):
            raise OAuthRefused("invalid_request", "code_verifier is not 43 to 128 unreserved characters (RFC 7636)")
        await authenticated(server, request, form)
        provider = Provider(server, Asked(resource=form.get("resource", ""), basic=basic(request)))
        response: Response = await TokenHandler(provider, ClientAuthenticator(provider)).handle(request)
        if response.status_code == 200:
            client_id = form.get("client_id", "")
            await server.clients.used(client_id)
            log.info("token issued", extra={"client_id": client_id, "grant_type": form["grant_type"]})
        return response

    return exchange


def _demo(demo: DemoSignIn, public_url: str) -> Grant:
    async def issue(request: Request, form: Form) -> Response:
        # A page of another site could make a browser post here. It could not read the answer, but it has no business
        # asking for a person's token either.
        origin = request.headers.get("origin")
        if origin is not None and origin != public_url:
            raise OAuthRefused("invalid_request", "token requests from pages of other sites are refused")
        person, surface, resource = (form.needed(name) for name in ("person", "surface", "resource"))
        issued = demo.issue(person, surface, form.get("channel"), resource, _lifetime(form), form.get("scope"))
        log.info("token issued", extra={"sub": person, "surface": surface, "resource": resource})
        return JSONResponse(issued.as_json(), headers=NO_STORE)

    return issue


def _lifetime(form: Form) -> int | None:
    """Our own optional parameter `lifetime`: seconds, when a caller wants a token that ends sooner."""
    text = form.get("lifetime")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_LIFETIME_S):
        raise OAuthRefused(
            "invalid_request", f"lifetime {text[:20]!r} is not a number of seconds from 1 to {MAX_LIFETIME_S}"
        )
    return int(text)
