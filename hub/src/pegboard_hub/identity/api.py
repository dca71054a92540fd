"""Signing in over HTTP, for clients: the authorization server's endpoints and the metadata that lead there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter
from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pegboard.core.challenge import METADATA_PREFIX
from pegboard.core.names import API_PATH, MCP_PREFIX, ServerName
from pegboard_hub.identity.oauth.authorize import Confirm, Explain, authorize_endpoint
from pegboard_hub.identity.oauth.device import DEVICE_GRANT, device_endpoint, device_grant
from pegboard_hub.identity.oauth.exchange import EXCHANGE_GRANT
from pegboard_hub.identity.oauth.metadata import api_resource, server_metadata, server_resource
from pegboard_hub.identity.oauth.register import register_endpoint
from pegboard_hub.identity.oauth.revoke import revoke_endpoint
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.oauth.token import Grant, token_endpoint

GRANTS = ("authorization_code", "refresh_token")

Endpoint = Callable[[Request], Awaitable[Response]]


def identity_routes(
    server: AuthorizationServer,
    explain: Explain,
    confirm: Confirm,
    more_grants: Mapping[str, Grant] | None = None,
) -> APIRouter:
    """The routes.

    Args:
        server: the parts.
        explain: makes the page for an authorization request that cannot be answered to its client.
        confirm: makes the page for one that a page of another site led to.
        more_grants: grants of the token endpoint beside the usual.
    """
    grants = {DEVICE_GRANT: device_grant(server), **(more_grants or {})}
    metadata = server_metadata(server, [*GRANTS, EXCHANGE_GRANT, *grants])

    async def authorization_server(_request: Request) -> Response:
        return JSONResponse(metadata)

    async def protected_resource(request: Request) -> Response:
        try:
            name = ServerName(request.path_params["namespace"], request.path_params["server"])
        except ValueError:
            return JSONResponse({"error": "not_found", "error_description": "no server can have this name"}, 404)
        return JSONResponse(server_resource(name, server.public_url))

    async def api(_request: Request) -> Response:
        return JSONResponse(api_resource(server.public_url))

    router = APIRouter(include_in_schema=False)
    router.routes += [
        Route("/oauth/authorize", authorize_endpoint(server, explain, confirm), methods=["GET"]),
        Route("/oauth/device", device_endpoint(server), methods=["POST"]),
        _open("/oauth/token", token_endpoint(server, grants), "POST"),
        _open("/oauth/revoke", revoke_endpoint(server), "POST"),
        _open("/.well-known/oauth-authorization-server", authorization_server, "GET"),
        _open(f"{METADATA_PREFIX}{MCP_PREFIX}{{namespace}}/{{server}}", protected_resource, "GET"),
        _open(f"{METADATA_PREFIX}{API_PATH}", api, "GET"),
    ]
    if server.registers:
        router.routes.append(_open("/oauth/register", register_endpoint(server), "POST"))
    return router


def _open(path: str, endpoint: Endpoint, method: str) -> Route:
    """A route that pages of other sites may ask too: clients in browsers do, and no cookie counts here."""
    methods = [method, "OPTIONS"]
    return Route(path, cors_middleware(endpoint, methods), methods=methods)
