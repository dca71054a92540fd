"""Token exchange at the token endpoint (RFC 8693 §2), and how registered surfaces authenticate there (RFC 7523 §2.2).

A surface has no secret that we keep: it signs who it is with a key of which the operator registered the public half.
"""

from __future__ import annotations

import base64
import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pegboard_hub.identity.clients.model import CLIENT_ID_LENGTH, Standing
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.answers import NO_STORE
from pegboard_hub.identity.oauth.forms import Form
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.surfaces.exchange import Wish
from pegboard_hub.identity.surfaces.model import ActingSurface

EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
JWT = "urn:ietf:params:oauth:token-type:jwt"

SUBJECT_TYPES = (ACCESS_TOKEN, JWT)

FAULTS = {
    "actor_token": "the client itself is who acts; leave actor_token out",
    "audience": "name the server by resource, its URL, and leave audience out",
}
"""Parameters of RFC 8693 §2.1 that are refused: a client would believe that they count."""


async def exchanged(server: AuthorizationServer, request: Request, form: Form) -> Response:
    """Answer a request for an exchange (RFC 8693 §2.2).

    Raises:
        OAuthRefused: RFC 8693 §2.2.2.
    """
    try:
        return await _exchanged(server, request, form)
    except OAuthRefused as error:
        server.acting.refused(error.code)
        raise


async def _exchanged(server: AuthorizationServer, request: Request, form: Form) -> Response:
    surface = await authenticated(server, request, form)
    if surface is None:
        words = "token exchange is for surfaces that the operator registered; sign in, to call as yourself"
        raise OAuthRefused("unauthorized_client", words)
    for name, words in FAULTS.items():
        if name in form:
            raise OAuthRefused("invalid_request", words)
    if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise OAuthRefused("invalid_request", f"requested_token_type must be {ACCESS_TOKEN}, or left out")
    kind = form.needed("subject_token_type")
    if kind not in SUBJECT_TYPES:
        raise OAuthRefused("invalid_request", f"subject_token_type must be one of {', '.join(SUBJECT_TYPES)}")
    wish = Wish(surface, form.needed("resource"), form.get("scope", ""), form.needed("subject_token"), kind == JWT)
    issued = await server.acting.exchange(wish)
    await server.clients.used(surface.client_id)
    return JSONResponse({**issued.as_json(), "issued_token_type": ACCESS_TOKEN}, headers=NO_STORE)


async def authenticated(server: AuthorizationServer, request: Request, form: Form) -> ActingSurface | None:
    """The registered surface that a request is from; None where its client is no such surface.

    Raises:
        OAuthRefused: it says that it is one, and does not prove it.
    """
    assertion = form.get("client_assertion", "")
    client_id = form.get("client_id") or _claimed(assertion)
    client = await server.clients.get(client_id) if _is_id(client_id) else None
    if client is None or not client.acts:
        if assertion:
            raise OAuthRefused("invalid_client", "client_assertion: no surface of this id is registered here")
        return None
    surface = server.surfaces.current.get(client_id)
    if surface is None or client.standing is Standing.BLOCKED:
        raise OAuthRefused("invalid_client", "the operators here have blocked this surface")
    if "authorization" in request.headers or "client_secret" in form:
        raise OAuthRefused("invalid_request", "a registered surface has no secret: send client_assertion alone")
    if form.get("client_assertion_type") != ASSERTION_TYPE or not assertion:
        words = (
            f"a registered surface signs who it is: send client_assertion, of client_assertion_type {ASSERTION_TYPE}"
        )
        raise OAuthRefused("invalid_client", words)
    await server.acting.authenticate(surface, assertion)
    return surface


def _is_id(client_id: str) -> bool:
    return 0 < len(client_id) <= CLIENT_ID_LENGTH and client_id.isascii() and client_id.isprintable()


def _claimed(assertion: str) -> str:
    """Whom an assertion names, to look up the key that it must be signed with; nobody, where it cannot be read."""
    part = assertion.split(".")[1] if assertion.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return ""
    named = claims.get("iss") if isinstance(claims, dict) else ""
    return named if isinstance(named, str) else ""
