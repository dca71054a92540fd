"""Revocation (RFC 7009): `POST /oauth/revoke`.

The SDK's own handler refuses public clients, which have no secret to send; so of the SDK only the client's
authentication is used here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mcp.server.auth.middleware.client_auth import AuthenticationError, ClientAuthenticator
from starlette.requests import Request
from starlette.responses import Response

from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.answers import NO_STORE
from pegboard_hub.identity.oauth.exchange import authenticated
from pegboard_hub.identity.oauth.forms import basic, read_form
from pegboard_hub.identity.oauth.provider import NOT_KEPT, Asked, Provider
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.oauth.token import challenged, refusal
from pegboard_hub.storage.errors import StorageUnavailable


def revoke_endpoint(server: AuthorizationServer) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint. A token that is not there, or is another client's, is answered like one that was revoked."""

    async def revoke(request: Request) -> Response:
        try:
            form, request = await read_form(request)
            token = form.needed("token")
            await authenticated(server, request, form)
            provider = Provider(server, Asked(basic=basic(request)))
            client = await ClientAuthenticator(provider).authenticate_request(request)
            found = await provider.load_access_token(token) or await provider.load_refresh_token(client, token)
            if found is not None and found.client_id == client.client_id:
                await provider.revoke_token(found)
        except OAuthRefused as refused:
            return refusal(refused)
        except AuthenticationError as error:
            return challenged(request, refusal(OAuthRefused("invalid_client", error.message)))
        except StorageUnavailable:
            return refusal(OAuthRefused("temporarily_unavailable", NOT_KEPT))
        return Response(headers=NO_STORE)

    return revoke
