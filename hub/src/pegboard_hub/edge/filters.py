"""The HTTP filters in their order: what every request under /mcp/ passes before a server sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pegboard.core.challenge import METADATA_PREFIX, challenge
from pegboard.core.names import ACTING_SURFACES
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S
from pegboard_hub.edge import cel
from pegboard_hub.edge.clusters import TO_SERVERS
from pegboard_hub.edge.coarse import GENERAL_RULES, SERVER_RULES, compile_general, compile_no_server
from pegboard_hub.edge.envoy import (
    CERTIFICATE,
    CLAIMS,
    JWT_METADATA,
    MCP_METADATA,
    REASON_HEADER,
    Json,
    claim,
    exactly,
    extension,
    header_input,
    literal,
    skip,
    typed,
    watched,
)
from pegboard_hub.edge.rates import BEHIND_RULES, LOCAL_RATE, RATE_NAMES, rate_filters, retry_after
from pegboard_hub.edge.replicas import MODERN, SESSIONS, by_session
from pegboard_hub.edge.revoked import REVOKED, claims_to_headers, compile_revoked, removals
from pegboard_hub.edge.rules import GRANTS, RBAC, claims, compile_grants, policy, rbac
from pegboard_hub.edge.snapshot import EdgeSnapshot
from pegboard_hub.edge.stops import STOPPED, TOOL_STOPS, compile_stopped, compile_tool_stops
from pegboard_hub.edge.tls import HSTS

JWT = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
HEADER_MUTATION = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Largest body of a request to a server; the same as a server's own limit."""

FAILED = "failed"
"""Key in the JWT filter's metadata that tells why a token did not verify."""

IDENTITY_HEADERS = {
    "x-forwarded-user": claim("sub"),
    "x-forwarded-groups": claim("groups"),
    "x-forwarded-surface": claim("surface"),
}
"""What a server is told of the caller, from the verified claims alone. Groups are a JSON array."""

REMOVED_HEADERS = (
    *IDENTITY_HEADERS,
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-channel",
    "x-forwarded-client-cert",
    "x-remote-user",
    "x-remote-group",
    "x-remote-groups",
    "remote-user",
    "x-user",
    "x-username",
    "x-groups",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
)
"""Headers some proxy or framework somewhere believes about identity, path or method. A caller's never survive."""

REMOVED_PREFIXES = (
    "x-pegboard-",
    "x-auth-request-",
    "x-authenticated-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-amzn-oidc-",
    "x-ms-client-principal",
    "x-spiffe-",
)

SERVERS_MAY_NOT = (
    "set-cookie",
    "set-cookie2",
    "location",
    "refresh",
    "link",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    "service-worker-allowed",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "report-to",
    "reporting-endpoints",
    "nel",
    REASON_HEADER,
)
"""Headers of answers that speak for the whole origin, or for the edge: a server's never reach a caller."""

WATCHED = ("jwt", REVOKED, GRANTS, GENERAL_RULES, TOOL_STOPS, *RATE_NAMES.values())
"""Filters that are a file of their own: a key, a grant, a rule, a stop or a rate does not touch the listener."""

AGREEMENT = "agreement"
"""The step that holds MCP's routing headers to the body for every protocol version."""

DOOR = "door"
"""The step that lets services through on their own listener alone, and nobody else there. Who acts for people does so
from where one may, or not at all."""

Side = Literal["public", "services"]
"""One of the two listeners."""

BEHIND = tuple(RATE_NAMES[per] for per in BEHIND_RULES)
"""Rates that count only what every rule let through, and no stop is for."""

FOR_SERVERS = (
    "cookies",
    "jwt",
    REVOKED,
    "identity",
    DOOR,
    RATE_NAMES["person"],
    "mcp",
    AGREEMENT,
    GRANTS,
    GENERAL_RULES,
    SERVER_RULES,
    TOOL_STOPS,
    STOPPED,
    *BEHIND,
    SESSIONS,
)
"""Filters that only requests to servers pass. A route must switch them off by name: one that does not is closed."""


def http_filters(folder: Path, public_url: str, side: Side = "public", *, secure: bool = False) -> list[Json]:
    """The chain of a listener. It depends on no server: what changes with the registry is in files and routes.

    With `secure` browsers are told to come by TLS alone.
    """
    return [
        extension("strip", HEADER_MUTATION, mutations={"request_mutations": _removals()}),
        retry_after(),
        *([extension("hsts", HEADER_MUTATION, mutations={"response_mutations": [_hsts()]})] if secure else []),
        _watched(RATE_NAMES["address"], folder, LOCAL_RATE),
        extension("cookies", HEADER_MUTATION, mutations=_without_cookies()),
        _watched("jwt", folder, JWT),
        _watched(REVOKED, folder, RBAC),
        extension("identity", HEADER_MUTATION, mutations={"request_mutations": removals() + _identity(side)}),
        {"name": DOOR, "typed_config": rbac(DOOR, _DOORS[side])},
        _watched(RATE_NAMES["person"], folder, LOCAL_RATE),
        _mcp(),
        _agreement(),
        _watched(GRANTS, folder, RBAC),
        _watched(GENERAL_RULES, folder, RBAC),
        {"name": SERVER_RULES, "typed_config": compile_no_server()},
        _watched(TOOL_STOPS, folder, RBAC),
        {"name": STOPPED, "typed_config": compile_stopped()},
        *(_watched(name, folder, LOCAL_RATE) for name in BEHIND),
        by_session(),
        extension(
            "router",
            "envoy.extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
            upstream_http_filters=[_what_servers_say(public_url), TO_SERVERS],
        ),
    ]


def watched_filters(snapshot: EdgeSnapshot) -> dict[str, Json]:
    """The filters that live in files of their own, by name."""
    granted = [server.access for server in snapshot.servers]
    others = {
        "jwt": _jwt(snapshot),
        REVOKED: compile_revoked(snapshot.revoked, snapshot.stops),
        GRANTS: compile_grants(granted),
        GENERAL_RULES: compile_general(snapshot.rules),
        TOOL_STOPS: compile_tool_stops(granted),
    }
    return others | rate_filters(snapshot.limits)


def file_of(name: str) -> str:
    """Name of the file of a watched filter."""
    return f"ecds-{name}.json"


def switched_off(*names: str) -> Json:
    """`typed_per_filter_config` of a route that filters `names` leave alone."""
    return {name: typed("envoy.config.route.v3.FilterConfig", disabled=True) for name in names}


def _watched(name: str, folder: Path, message: str) -> Json:
    return {
        "name": name,
        "config_discovery": {
            "config_source": watched(folder / file_of(name)),
            "type_urls": [f"type.googleapis.com/{message}"],
        },
    }


def _what_servers_say(public_url: str) -> Json:
    """Between the edge and a server, where the edge's own answers do not pass: what no server says to a caller.

    Where callers sign in is the edge's word: whatever a server asks for, callers are told of the one place, and of
    the scope that a server may miss.
    """
    metadata = f"{literal(public_url.rstrip('/'))}{METADATA_PREFIX}%PATH(NQ)%"
    challenge_ = challenge(metadata, SCOPE_TOOLS, "insufficient_scope")
    told = {"header": {"key": "www-authenticate", "value": challenge_}, "append_action": "OVERWRITE_IF_EXISTS"}
    removed: list[Json] = [{"remove": name} for name in SERVERS_MAY_NOT]
    return extension("answers", HEADER_MUTATION, mutations={"response_mutations": [*removed, {"append": told}]})


def _removals() -> list[Json]:
    exact: list[Json] = [{"remove": name} for name in REMOVED_HEADERS]
    return exact + [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in REMOVED_PREFIXES]


def _hsts() -> Json:
    value = {"key": "strict-transport-security", "value": HSTS}
    return {"append": {"header": value, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _without_cookies() -> Json:
    return {"request_mutations": [{"remove": "cookie"}]}


def _identity(side: Side) -> list[Json]:
    """What a server is told of the caller. Of a service it is the certificate's word, which must be the token's too:
    a server refuses headers that differ from the token, and so it looks at the certificate as well."""
    told = IDENTITY_HEADERS | ({"x-forwarded-user": CERTIFICATE} if side == "services" else {})
    return [
        {
            "append": {
                "header": {"key": name, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in told.items()
    ]


def _sub_type(kind: str) -> Json:
    return claims("sub_type", **exactly(kind))


def _claimed(*path: str) -> Json:
    return cel.value("metadata.filter_metadata", JWT_METADATA, CLAIMS, *path)


_THERE = {"present_match": True}
_ACTED_ON: Json = {"or_ids": {"ids": [claims("surface", **exactly(name)) for name in ACTING_SURFACES]}}

_DOORS: dict[Side, Json] = {
    "public": {
        "person": policy(who=[_sub_type("person"), {"not_id": _ACTED_ON}, {"not_id": claims("act", **_THERE)}]),
        # From surfaces that work for many, the client itself acts, and for nobody who acts themselves.
        "acting": policy(
            who=[_sub_type("person"), _ACTED_ON, {"not_id": claims("act", "act", **_THERE)}],
            condition=cel.equal(_claimed("act", "sub"), _claimed("client_id")),
        ),
    },
    "services": {
        # Its own certificate's: a token that was stolen is of no use without the key of the same SPIFFE ID.
        "service": policy(
            who=[_sub_type("service")],
            condition=cel.equal(
                cel.value("request.headers", "x-forwarded-user"),
                _claimed("sub"),
            ),
        )
    },
}
"""Whose tokens count on which listener. Where somebody must act for a person and nobody does, or the other way round,
it is no valid token (`core.caller`)."""


def _jwt(snapshot: EdgeSnapshot) -> Json:
    """Verification with the keys inline, so that the edge needs nobody. Only the Authorization header is read."""
    provider: Json = {
        "issuer": snapshot.issuer,
        "local_jwks": {"inline_string": _compact(snapshot.jwks)},
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "forward": True,
        "require_expiration": True,
        "max_lifetime": f"{MAX_LIFETIME_S + CLOCK_SKEW_S}s",
        "clock_skew_seconds": CLOCK_SKEW_S,
        "payload_in_metadata": CLAIMS,
        "claim_to_headers": claims_to_headers(),
        # Who calls is known from here on, and says which of two releases a call is for (`replicas`).
        **({"clear_route_cache": True} if any(len(each.shares) > 1 for each in snapshot.servers) else {}),
        "failed_status_in_metadata": FAILED,
        "jwt_cache_config": {"jwt_cache_size": 4096, "jwt_max_token_size": 8192},
    }
    return typed(
        JWT,
        providers={"pegboard": provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "pegboard"}}],
    )


def _compact(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _mcp() -> Json:
    """Parses a POST's body, refuses what two parsers could read differently, and leaves method and tool for the log.

    It may refuse but is never what allows a call: the filter is outside Envoy's threat model. GET opens a legacy
    stream and DELETE ends a legacy session; neither has a body to parse.
    """
    bodiless = {
        "input": header_input(":method"),
        "exact_match_map": {"map": {method: {"action": skip()} for method in ("GET", "DELETE")}},
    }
    return extension(
        "mcp",
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=extension(
            "mcp-body",
            "envoy.extensions.filters.http.mcp.v3.Mcp",
            traffic_mode="REJECT_NO_MCP",
            attribute_source="VERIFY",
            reject_duplicate_keys=True,
            max_request_body_size=MAX_BODY_BYTES,
            # MCP carries a trace in `_meta`; from here on it is the request's `traceparent`, for log and server.
            # Envoy takes over only one that is well-formed (tests/attacks).
            propagate_trace_context={},
        ),
        xds_matcher={"matcher_tree": bodiless},
    )


def _agreement() -> Json:
    """Mcp-Method and Mcp-Name must say what the body says, or stay away.

    The MCP filter holds a request to that only when it claims a modern version; an older or absent version with
    these headers would pass with a lie in them. An absent Mcp-Method beside an Mcp-Name is a lie as well.
    """
    named, method = _absent("mcp-name"), _absent("mcp-method")
    policies = {
        "absent": policy([named, method]),
        "method": policy([named], condition=_says("mcp-method", "method")),
        "modern": policy([{"header": {"name": "mcp-protocol-version", "string_match": {"exact": MODERN}}}]),
        "name": policy(condition=cel.both(_says("mcp-method", "method"), _says("mcp-name", "params", "name"))),
        "uri": policy(condition=cel.both(_says("mcp-method", "method"), _says("mcp-name", "params", "uri"))),
    }
    return {"name": AGREEMENT, "typed_config": rbac(AGREEMENT, policies)}


def _absent(header: str) -> Json:
    return {"header": {"name": header, "present_match": True, "invert_match": True}}


def _says(header: str, *path: str) -> Json:
    return cel.equal(cel.value("request.headers", header), cel.value("metadata.filter_metadata", MCP_METADATA, *path))
