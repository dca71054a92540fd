"""What clients read before anything else: RFC 8414 of the authorization server, RFC 9728 of every resource."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcp.shared.auth import OAuthMetadata
from pydantic import AnyHttpUrl

from pegboard.core.jose import ALGORITHM
from pegboard.core.names import ServerName, api_audience
from pegboard.core.scopes import SCOPE_API, SERVER_SCOPES
from pegboard_hub.identity.oauth.device import DEVICE_GRANT
from pegboard_hub.identity.oauth.server import AuthorizationServer

AUTHENTICATION = ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"]
"""The last is of registered surfaces alone (RFC 7523)."""

MUTUAL_TLS = "tls_client_auth"
"""RFC 8705 §2.1: of services, at the address that `mtls_endpoint_aliases` (§5) tells."""


class Metadata(OAuthMetadata):
    """RFC 8414, with what other specifications add to it."""

    device_authorization_endpoint: AnyHttpUrl | None = None
    """RFC 8628 §4."""


def server_metadata(server: AuthorizationServer, grants: list[str]) -> dict[str, Any]:
    """The authorization server's metadata (RFC 8414 §2, RFC 9207 §3, and client id metadata documents)."""

    def at(path: str) -> AnyHttpUrl:
        return AnyHttpUrl(f"{server.public_url}/oauth/{path}")

    device = DEVICE_GRANT in grants
    services = server.services
    found = Metadata(
        issuer=AnyHttpUrl(server.public_url),
        authorization_endpoint=at("authorize"),
        token_endpoint=at("token"),
        registration_endpoint=at("register") if server.registers else None,
        revocation_endpoint=at("revoke"),
        device_authorization_endpoint=at("device") if device else None,
        scopes_supported=[*SERVER_SCOPES],
        response_types_supported=["code"],
        response_modes_supported=["query"],
        grant_types_supported=grants,
        token_endpoint_auth_methods_supported=AUTHENTICATION,
        revocation_endpoint_auth_methods_supported=AUTHENTICATION,
        code_challenge_methods_supported=["S256"],
        client_id_metadata_document_supported=server.documents,
        authorization_response_iss_parameter_supported=True,
    )
    document: dict[str, Any] = found.model_dump(mode="json", exclude_none=True)
    for endpoint in ("token_endpoint", "revocation_endpoint"):
        document[f"{endpoint}_auth_signing_alg_values_supported"] = [ALGORITHM]
    if services is not None:
        document["token_endpoint_auth_methods_supported"] = [*AUTHENTICATION, MUTUAL_TLS]
        document["mtls_endpoint_aliases"] = {"token_endpoint": f"{services.origin(server.public_url)}/oauth/token"}
    # Clients compare the issuer letter by letter (RFC 8414 §3.3).
    return document | {"issuer": server.public_url}


def server_resource(name: ServerName, public_url: str) -> dict[str, Any]:
    """The metadata of a server, whether or not there is one of that name: nobody can probe for names here."""
    return _resource(name.resource_url(public_url), str(name), SERVER_SCOPES, public_url)


def api_resource(public_url: str) -> dict[str, Any]:
    """The metadata of the hub's own API."""
    return _resource(api_audience(public_url), "Pegboard's API", (SCOPE_API,), public_url)


def _resource(resource: str, name: str, scopes: Iterable[str], public_url: str) -> dict[str, Any]:
    """RFC 9728 §2."""
    return {
        "resource": resource,
        "authorization_servers": [public_url],
        "scopes_supported": [*scopes],
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    }
