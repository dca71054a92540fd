"""Programs without a browser (RFC 8628): `POST /oauth/device`, and their grant at the token endpoint."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from mcp.server.auth.middleware.client_auth import AuthenticationError, ClientAuthenticator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pegboard_hub.identity.clients.model import Client, ClientKind
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.answers import NO_STORE
from pegboard_hub.identity.oauth.forms import Form, basic, read_form
from pegboard_hub.identity.oauth.provider import Asked, KnownClient, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.oauth.token import Grant, refusal

log = logging.getLogger(__name__)

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = "/device"
"""Where people type codes."""

KINDS = (ClientKind.FIRST_PARTY, ClientKind.REGISTERED)
"""Clients that get codes: those that somebody here vouches for. Of others a person could not tell who really asks:
there is no redirect that an answer would go to."""


def device_endpoint(server: AuthorizationServer) -> Callable[[Request], Awaitable[Response]]:
    """The device authorization endpoint (RFC 8628 §3.1)."""

    async def device(request: Request) -> Response:
        try:
            _check_origin(request, server.public_url)
            form, request = await read_form(request)
            client = await _client(server, request)
            if client.kind not in KINDS:
                words = "codes to type are for clients that the operator registered; use the authorization code grant"
                raise OAuthRefused("unauthorized_client", words)
            resource, scope = _asked(server, client, form)
            program = request.headers.get("user-agent", "")
            given = await server.devices.give(client, resource, scope, address_of(request), program)
        except OAuthRefused as refused:
            return refusal(refused)
        body = {
            "device_code": given.device_code,
            "user_code": given.user_code,
            "verification_uri": f"{server.public_url}{PAGE}",
            "expires_in": given.expires_in,
            "interval": given.interval,
        }
        return JSONResponse(body, headers=NO_STORE)

    return device


def device_grant(server: AuthorizationServer) -> Grant:
    """The grant of the token endpoint (RFC 8628 §3.4)."""

    async def exchange(request: Request, form: Form) -> Response:
        client = await _client(server, request)
        answer = await server.devices.exchange(client, form.needed("device_code"), form.get("resource", ""))
        await server.clients.used(client.client_id)
        log.info("token issued", extra={"client_id": client.client_id, "grant_type": DEVICE_GRANT})
        body = {**answer.issued.as_json(), "refresh_token": answer.refresh_token}
        return JSONResponse(body, headers=NO_STORE)

    return exchange


def address_of(request: Request) -> str:
    """The address that a request came from, as the edge saw it: the last it wrote; empty without an edge."""
    written = request.headers.getlist("x-forwarded-for")
    return written[-1].rpartition(",")[2].strip() if written else ""


async def _client(server: AuthorizationServer, request: Request) -> Client:
    """The client that asks.

    Raises:
        OAuthRefused: it is not known, or is not who it says.
    """
    try:
        found = await ClientAuthenticator(Provider(server, Asked(basic=basic(request)))).authenticate_request(request)
    except AuthenticationError as error:
        raise OAuthRefused("invalid_client", error.message) from error
    assert isinstance(found, KnownClient)  # noqa: S101 - what `get_client` gave
    return found.client


def _asked(server: AuthorizationServer, client: Client, form: Form) -> tuple[str, str]:
    """Resource and scope of the connection, as at the authorization endpoint.

    A client for any resource has no scope: each token's is its resource's, and the person is told so.
    """
    if client.any_resource:
        return "", ""
    if not form.get("resource"):
        raise OAuthRefused("invalid_target", "resource is missing: say which server the token is for, by its URL")
    return form["resource"], server.issuer.scope_for(form["resource"], form.get("scope"))


def _check_origin(request: Request, public_url: str) -> None:
    """No program without a browser sends an `Origin`; a page that does would ask in its reader's name."""
    if request.headers.get("origin", public_url) != public_url:
        raise OAuthRefused("invalid_request", "requests for codes from pages of other sites are refused")
