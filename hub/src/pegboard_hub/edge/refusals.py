"""The refusals of Envoy itself: a table of cases, first match first.

The sentences of the coarse rules are `core.access`'s own, with Envoy's placeholders where a caller's and a server's
facts go; Envoy escapes what it fills in. How a case becomes a response is in `replies`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from pegboard.core.access import RULES, ServerAccess, refusal_by
from pegboard.core.caller import Caller
from pegboard.core.challenge import Error
from pegboard.core.names import ServerName
from pegboard.core.refusal import JSONRPC_CODE, Refusal, stops_unknown
from pegboard.core.token import REASONS
from pegboard_hub.edge.envoy import (
    CLAIMS,
    JWT_METADATA,
    MCP_METADATA,
    Json,
    claim,
    exactly,
    metadata_value,
    route_fact,
)
from pegboard_hub.edge.filters import AGREEMENT, FAILED, MAX_BODY_BYTES, MODERN
from pegboard_hub.edge.revoked import REVOKED
from pegboard_hub.edge.routes import EXPIRED, FOREIGN, STOPPED, STOPS_UNKNOWN
from pegboard_hub.edge.rules import DECIDED, FILTERED, RBAC_METADATA, RULE_NAMES

HEADER_MISMATCH = -32020
"""JSON-RPC code of MCP 2026-07-28 for a header that differs from the body."""

_TOKEN_FAILURES = {
    "Jwt is missing": "token_missing",
    "Jwt is expired": "token_expired",
    "Jwt not yet valid": "token_not_yet_valid",
    "Jwt issuer is not configured": "token_wrong_issuer",
}
"""The JWT filter's words that say more than that a token is not ours."""

# ServerName would check the placeholder's spelling; only its text is wanted here.
_ANY_SERVER = ServerAccess(
    cast(ServerName, route_fact("server")),
    route_fact("owner"),
    route_fact("support"),
    resource_url="",
    stopped=route_fact("stopped"),
)
_ANY_CALLER = Caller(
    sub=claim("sub"),
    sub_type="person",
    groups=(),
    surface=claim("surface"),
    client_id=claim("client_id"),
    audience=claim("aud"),
    expires_at=0,
    token_id="",
    channel=claim("channel"),
)

PUBLIC_URL = "PEGBOARD_PUBLIC_URL"
"""What stands for the instance's public URL in a refusal; `replies` fills it in."""

Place = Literal["mcp", "hub", "both"]
"""Where a case is answered: under /mcp/ (as JSON-RPC), elsewhere (as plain JSON), or in both."""


@dataclass(frozen=True, slots=True)
class Case:
    """One refusal of Envoy's own.

    Attributes:
        when: Envoy's AccessLogFilter that recognises the case; None always does.
        refusal: what is said, with placeholders.
        status: replaces Envoy's own status.
        challenge: the error that `WWW-Authenticate` names, if any; None for no such header.
        code: of the JSON-RPC error.
        where: which paths the case is for.
        identified: false where Envoy could not read the request, so that it has no id.
    """

    when: Json | None
    refusal: Refusal
    status: int | None = None
    challenge: Error | None = None
    code: int = JSONRPC_CODE
    where: Place = "mcp"
    identified: bool = True


def _all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _status(code: int) -> Json:
    # Envoy lets an operator override the number at run time under this key; nothing sets it.
    value = {"default_value": code, "runtime_key": "pegboard.unused"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _metadata(namespace: str, *path: str, value: str) -> Json:
    matcher = metadata_value(namespace, *path, **exactly(value))
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _without_claim(name: str) -> Json:
    matcher = metadata_value(JWT_METADATA, CLAIMS, name, null_match={})
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": True}}


def _verified() -> Json:
    """The JWT filter found the token good. What Envoy refuses before its filters has no claims."""
    matcher = metadata_value(JWT_METADATA, CLAIMS, "sub", present_match=True)
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _refusal(code: str, message: str, reason: str, what_to_do: str) -> Refusal:
    return Refusal(code, message, "edge", reason, what_to_do)


def _token(reason: str, when: Json, challenge: Error = "invalid_token") -> Case:
    refusal = _refusal(
        "unauthenticated",
        f"Not signed in: {REASONS[reason]}.",
        reason,
        "Sign in again and use a token for this server.",
    )
    return Case(when, refusal, 401, challenge)


def _tokens() -> list[Case]:
    """What the JWT filter found wrong (RFC 6750 §3.1: a request without a token gets no error code)."""
    known = []
    for words, reason in _TOKEN_FAILURES.items():
        when = _metadata(JWT_METADATA, FAILED, "message", value=words)
        known.append(_token(reason, when, "") if reason == "token_missing" else _token(reason, when))
    return [*known, _token("token_invalid", _status(401))]


def _rules() -> list[Case]:
    """A rule's refusal in the words of `core.access`, with placeholders for the facts.

    Envoy notes that a filter denied only after it has answered, but that one allowed before the next is asked. So
    the rule that refused is the one behind the last that allowed, and the table goes from the last rule to the first,
    and on to what comes before all rules.
    """
    steps = (AGREEMENT, *RULE_NAMES)
    allowed = {name: _metadata(RBAC_METADATA, f"{name}_{DECIDED}", value="allowed") for name in (REVOKED, *steps)}
    replies = []
    for before, rule in reversed(list(zip(steps, FILTERED, strict=False))):
        when = _all(_status(403), allowed[before])
        if rule.name == "audience":
            replies.append(_token("token_wrong_audience", when))
            continue
        if rule.name == "scope":
            refusal = refusal_by(rule, _ANY_CALLER, _ANY_SERVER, "edge")
            replies.append(Case(when, refusal, challenge="insufficient_scope"))
            continue
        if rule.name == "channel":
            # A placeholder without a value prints as a dash, and the sentence has a word for it.
            outside = _all(when, _without_claim("channel"))
            replies.append(Case(outside, refusal_by(rule, replace(_ANY_CALLER, channel=None), _ANY_SERVER, "edge")))
        replies.append(Case(when, refusal_by(rule, _ANY_CALLER, _ANY_SERVER, "edge")))
    stop = next(rule for rule in RULES if rule.name == "stop")
    replies.append(Case(_status(STOPPED), refusal_by(stop, _ANY_CALLER, _ANY_SERVER, "edge"), 403))
    mismatches = [
        _ambiguous("header_mismatch", when, 400, HEADER_MISMATCH)
        # The second is for what Envoy refuses before all filters, such as a connection that is to be something else.
        for when in (_all(_status(403), allowed[REVOKED]), _status(403))
    ]
    return [*replies, mismatches[0], _token("token_revoked", _all(_status(403), _verified())), mismatches[1]]


def _ambiguous(reason: str, when: Json, status: int = 400, code: int = JSONRPC_CODE) -> Case:
    refusal = _refusal(
        "ambiguous_request",
        f"The request can be read in more than one way ({reason}), so it was not run.",
        reason,
        "Send one JSON-RPC object with unique keys, and Mcp-Method and Mcp-Name equal to its body.",
    )
    return Case(when, refusal, status, code=code)


def _bodies() -> list[Case]:
    """Requests whose body is not one well-formed MCP message."""
    too_large = _refusal(
        "request_too_large",
        f"The request is larger than {MAX_BODY_BYTES} bytes.",
        "request_too_large",
        "Send less in one call.",
    )
    not_mcp = _refusal(
        "not_mcp",
        "The request is not one JSON-RPC message of MCP.",
        "not_mcp",
        "POST one JSON object as application/json, and accept application/json and text/event-stream.",
    )
    modern = {"header_filter": {"header": {"name": "mcp-protocol-version", "string_match": {"exact": MODERN}}}}
    return [
        _ambiguous("duplicate_keys", _body("mcp_duplicate_keys")),
        Case(_body("mcp_body_too_large"), too_large, 413),
        Case(_status(413), too_large),
        # Of a modern request the filter does not tell a wrong header from a wrong body.
        _ambiguous("header_mismatch", _all(_body("mcp_not_jsonrpc"), modern), 400, HEADER_MISMATCH),
        Case(_status(400), not_mcp),
    ]


def _body(status: str) -> Json:
    return _metadata(MCP_METADATA, "status", value=status)


def _addresses() -> list[Case]:
    """Requests that are for nobody here."""
    wrong_host = _refusal(
        "wrong_host",
        "This host is not served here.",
        "wrong_host",
        f"Use Pegboard's own address: {PUBLIC_URL}",
    )
    unknown = _refusal(
        "unknown_server",
        "There is no server at this address.",
        "unknown_server",
        "Look at the list of servers for the right address.",
    )
    return [
        Case(_status(FOREIGN), wrong_host, where="both"),
        Case(_status(404), unknown, where="both"),
    ]


def _unavailable() -> list[Case]:
    """The edge found nothing wrong, and nobody answers, or nothing may be decided any more."""
    server, ask = _ANY_SERVER.server, _ANY_SERVER.ask
    down = _refusal(
        "server_unavailable",
        f"{server} does not answer right now; the call did not run. {ask}",
        "server_unreachable",
        f"Try again in a moment. {ask}",
    )
    lost = _refusal(
        "server_unavailable",
        f"{server} stopped answering; the call may or may not have run. {ask}",
        "server_gone",
        f"Check before you repeat it. {ask}",
    )
    slow = _refusal(
        "server_timeout",
        f"{server} was silent for too long; the call may or may not have run. {ask}",
        "server_timeout",
        f"Check before you repeat it. {ask}",
    )
    busy = _refusal("edge_busy", "The edge has too much to do.", "edge_busy", "Try again in a moment.")
    hub = _refusal("hub_unavailable", "The hub does not answer.", "hub_unreachable", "Try again in a moment.")
    expired = _refusal(
        "unavailable",
        "The edge has no current grants to decide with, so it refuses everything.",
        "bundle_unusable",
        "Ask the platform team to look at the hub; it renews grants by itself once it is back.",
    )
    return [
        Case(_flags("OM"), busy, 503, where="both"),
        Case(_flags("UF", "UO", "NC", "UH"), down, 503),
        Case(_flags("UC", "UR", "LR", "UPE"), lost, 502),
        Case(_flags("SI", "UT", "DT"), slow, 504),
        Case(_flags("UF", "UO", "NC", "UH", "UC", "UR", "LR", "UPE", "UT"), hub, 503, where="hub"),
        Case(_status(EXPIRED), expired, 503),
        Case(_status(STOPS_UNKNOWN), stops_unknown(str(server), "edge"), 503),
        Case(_status(503), lost, 502),
    ]


def _anything() -> list[Case]:
    """What no row foresees, for example bytes that are not HTTP. It says nothing of its cause."""
    refusal = _refusal(
        "bad_request",
        "The edge could not handle this request.",
        "http_%RESPONSE_CODE%",
        "Send a well-formed request, without underscores in the names of headers.",
    )
    unread = {"header_filter": {"header": {"name": ":path", "present_match": True, "invert_match": True}}}
    return [Case(unread, refusal, where="hub", identified=False), Case(None, refusal, where="both")]


CASES: tuple[Case, ...] = (*_rules(), *_tokens(), *_bodies(), *_addresses(), *_unavailable(), *_anything())
"""Every case, first match first."""
