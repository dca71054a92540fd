"""The HTTP filters in their order: what every request under /mcp/ passes before a server sees it."""

from __future__ import annotations

import json
from pathlib import Path

from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S
from pegboard_hub.edge import cel
from pegboard_hub.edge.envoy import CLAIMS, MCP_METADATA, Json, claim, extension, header_input, typed, watched
from pegboard_hub.edge.revoked import REVOKED, claims_to_headers, compile_revoked, removals
from pegboard_hub.edge.rules import RBAC, RULE_NAMES, compile_rule, policy, rbac
from pegboard_hub.edge.snapshot import EdgeSnapshot

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

WATCHED_RULES = ("channel", "group")
"""Rules with a policy per granted name. Each is a file of its own, so that a new name does not touch the listener."""

WATCHED = ("jwt", REVOKED, *WATCHED_RULES)
"""Filters that are a file of their own: those rules, and those that know keys of tokens and what was revoked."""

AGREEMENT = "agreement"
"""The step that holds MCP's routing headers to the body for every protocol version."""

MODERN = "2026-07-28"
"""The MCP revision whose routing headers the MCP filter verifies by itself."""

FOR_SERVERS = ("cookies", "jwt", REVOKED, "identity", "mcp", AGREEMENT, *RULE_NAMES)
"""Filters that only requests to servers pass. A route must switch them off by name: one that does not is closed."""


def http_filters(folder: Path) -> list[Json]:
    """The chain. It does not depend on any server: what changes with the registry is in watched files and routes."""
    rules = [_watched(name, folder, RBAC) if name in WATCHED_RULES else _fixed(name) for name in RULE_NAMES]
    return [
        extension("strip", HEADER_MUTATION, mutations={"request_mutations": _removals()}),
        extension("cookies", HEADER_MUTATION, mutations=_without_cookies()),
        _watched("jwt", folder, JWT),
        _watched(REVOKED, folder, RBAC),
        extension("identity", HEADER_MUTATION, mutations={"request_mutations": removals() + _identity()}),
        _mcp(),
        _agreement(),
        *rules,
        extension("router", "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]


def watched_filters(snapshot: EdgeSnapshot) -> dict[str, Json]:
    """The filters that live in files of their own, by name."""
    granted = [server.access for server in snapshot.servers]
    others = {"jwt": _jwt(snapshot), REVOKED: compile_revoked(snapshot.revoked)}
    return others | {name: compile_rule(name, granted) for name in WATCHED_RULES}


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


def _fixed(name: str) -> Json:
    return {"name": name, "typed_config": compile_rule(name, ())}


def _removals() -> list[Json]:
    exact: list[Json] = [{"remove": name} for name in REMOVED_HEADERS]
    return exact + [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in REMOVED_PREFIXES]


def _without_cookies() -> Json:
    return {
        "request_mutations": [{"remove": "cookie"}],
        "response_mutations": [{"remove": "set-cookie"}],
    }


def _identity() -> list[Json]:
    return [
        {
            "append": {
                "header": {"key": name, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in IDENTITY_HEADERS.items()
    ]


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
        "exact_match_map": {"map": {method: {"action": _skip()} for method in ("GET", "DELETE")}},
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


def _skip() -> Json:
    return extension("skip", "envoy.extensions.filters.common.matcher.action.v3.SkipFilter")


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
