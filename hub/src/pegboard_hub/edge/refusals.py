"""The refusals of Envoy itself: a table of cases, first match first.

The sentences of the coarse rules are `core.access`'s own, with Envoy's placeholders where a caller's and a server's
facts go; Envoy escapes what it fills in. How a case becomes a response is in `replies`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from pegboard.core.access import RULE_DENIED, RULES, ServerAccess, refusal_by
from pegboard.core.caller import Caller
from pegboard.core.challenge import Error
from pegboard.core.coarse import RULE_MEND, TOLD_ALWAYS, TOLD_METHOD
from pegboard.core.decide import stopped
from pegboard.core.names import ACTING_SURFACES, PERSON_SURFACES, ServerName
from pegboard.core.rates import Per
from pegboard.core.refusal import JSONRPC_CODE, Refusal, stops_unknown
from pegboard.core.stops import STOPPED as STOPPED_WORDS
from pegboard.core.stops import CallerKind
from pegboard.core.token import REASONS
from pegboard_hub.edge.coarse import GENERAL_RULES, SERVER_RULES
from pegboard_hub.edge.envoy import (
    CLAIMS,
    JWT_METADATA,
    MCP_METADATA,
    Json,
    claim,
    exactly,
    metadata,
    metadata_value,
    route_fact,
)
from pegboard_hub.edge.filters import DOOR, FAILED, MAX_BODY_BYTES
from pegboard_hub.edge.rates import STATUS
from pegboard_hub.edge.replicas import MODERN
from pegboard_hub.edge.revoked import REVOKED
from pegboard_hub.edge.routes import EXPIRED, FOREIGN, STOPPED, STOPS_UNKNOWN
from pegboard_hub.edge.rules import (
    AUDIENCE,
    DECIDED,
    FILTERED,
    GRANTS,
    HELD,
    OF_CALLERS,
    PASSED_AS,
    RBAC_METADATA,
    not_held,
)
from pegboard_hub.edge.stops import TOOL_STOPS

HEADER_MISMATCH = -32020
"""JSON-RPC code of MCP 2026-07-28 for a header that differs from the body."""

SOON_S = 2
"""Seconds in `Retry-After` where a process is just being started again, or has too much to do."""

LATER_S = 60
"""Seconds in `Retry-After` where somebody has to mend something."""

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
        retry_after_s: what `Retry-After` says; a rate's is told by `rates`.
        identified: false where Envoy could not read the request, so that it has no id.
    """

    when: Json | None
    refusal: Refusal
    status: int | None = None
    challenge: Error | None = None
    code: int = JSONRPC_CODE
    where: Place = "mcp"
    identified: bool = True
    retry_after_s: int | None = None


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
    return _with_claim("sub")


def _acts_wrongly() -> Json:
    """Somebody acts for a person where nobody may, or nobody does where somebody must, or one acts for another."""
    from_there = {"or_filter": {"filters": [_claims("surface", name) for name in ACTING_SURFACES]}}
    elsewhere = [_claims("surface", name) for name in PERSON_SURFACES if name not in ACTING_SURFACES]
    acts = _with_claim("act")
    wrongly = [
        _all(from_there, _without_claim("act")),
        _all({"or_filter": {"filters": elsewhere}}, acts),
        _all(acts, _with_claim("act", "act")),
    ]
    return _all(_claims("sub_type", "person"), {"or_filter": {"filters": wrongly}})


def _claims(name: str, value: str) -> Json:
    return _metadata(JWT_METADATA, CLAIMS, name, value=value)


def _with_claim(*path: str) -> Json:
    matcher = metadata_value(JWT_METADATA, CLAIMS, *path, present_match=True)
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

    Envoy notes that a filter denied only after it has answered, but that one allowed, and as what, before the next is
    asked. The rules are one filter, which lets a request pass as the rule that does not hold; of the others, the one
    that refused is the one behind the last that allowed. So the table goes from the last filter to the first.
    """
    allowed = {name: _metadata(RBAC_METADATA, f"{name}_{DECIDED}", value="allowed") for name in (REVOKED, DOOR)}
    replies = _stops(_passed_as(GRANTS, exact=HELD))
    for rule in FILTERED:
        when = _all(_status(403), _passed_as(GRANTS, exact=not_held(rule.name)))
        if rule.name == AUDIENCE:
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
        for when in (_all(_status(403), allowed[DOOR]), _status(403))
    ]
    door = _refusal(
        "access_denied",
        "A service's token counts on the port for services alone, with the certificate of its own SPIFFE ID, "
        "and nobody else's token counts there.",
        "wrong_door",
        "Services call the port for services with their own certificate; people call the public address.",
    )
    other_door = Case(_all(_status(403), allowed[REVOKED]), door)
    return [
        *replies,
        mismatches[0],
        _token("token_bad_claims", _all(_status(403), allowed[REVOKED], _acts_wrongly())),
        other_door,
        _token("token_revoked", _all(_status(403), _verified())),
        mismatches[1],
    ]


def _stops(passed_all: Json) -> list[Case]:
    """What a stop of a caller or a tool, or a coarse rule, refuses, in the sentence that the request passed as."""
    cases = []
    for rule in (rule for rule in RULES if rule.name in OF_CALLERS):
        begins = STOPPED_WORDS[cast(CallerKind, rule.name.removesuffix("-stop"))]
        words, mend = metadata(RBAC_METADATA, _PASSED_REVOKED), str(rule.mend)
        refusal = _refusal(rule.code, f"{words}. {mend}", rule.refused, mend)
        cases.append(Case(_all(_status(403), passed_all, _passed_as(REVOKED, prefix=f"{begins}: ")), refusal))
    for begins in (TOLD_ALWAYS, TOLD_METHOD):
        for name in (GENERAL_RULES, SERVER_RULES):
            words = metadata(RBAC_METADATA, f"{name}_{PASSED_AS}")
            refusal = _refusal(RULE_DENIED, f"{words}. {RULE_MEND}", RULE_DENIED, RULE_MEND)
            cases.append(Case(_all(_status(403), passed_all, _passed_as(name, prefix=begins)), refusal))
    words = metadata(RBAC_METADATA, f"{TOOL_STOPS}_{PASSED_AS}")
    going = _all(_status(403), passed_all, _metadata(RBAC_METADATA, f"{TOOL_STOPS}_{DECIDED}", value="allowed"))
    return [*cases, Case(going, stopped(words, _ANY_SERVER, "edge"))]


_PASSED_REVOKED = f"{REVOKED}_{PASSED_AS}"


def _passed_as(name: str, **words: str) -> Json:
    matcher = metadata_value(RBAC_METADATA, f"{name}_{PASSED_AS}", string_match=words)
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _ambiguous(reason: str, when: Json, status: int = 400, code: int = JSONRPC_CODE) -> Case:
    refusal = _refusal(
        "ambiguous_request",
        f"The request can be read in more than one way ({reason}), so it was not run.",
        reason,
        "Send one JSON-RPC object with unique keys, and Mcp-Method and Mcp-Name equal to its body.",
    )
    return Case(when, refusal, status, code=code)


def _rates() -> list[Case]:
    """Who asked more than a rate allows. Which one it was is told by the status of its filter."""
    server, ask = _ANY_SERVER.server, _ANY_SERVER.ask
    wait = "Wait for the seconds in Retry-After and ask less often"
    whose: dict[Per, tuple[str, str]] = {
        "address": (
            "Your address sent more requests than one address may",
            "Sign in if you have not, or send fewer.",
        ),
        "person": ("You sent more requests than one person may", f"{wait}; the platform team can allow more."),
        "surface": (
            f"The surface {_ANY_CALLER.surface} sent more calls than it may, for all its people together",
            f"{wait}; the platform team can allow more.",
        ),
        "server": (f"{server} was called more often than it may be, by everybody together", f"{wait}. {ask}"),
    }
    return [
        Case(
            _status(STATUS[per]),
            _refusal("rate_limited", f"{what}, so this one was not run.", f"{per}_rate", what_to_do),
            429,
            where="both" if per == "address" else "mcp",
        )
        for per, (what, what_to_do) in whose.items()
    ]


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
    too_slow = _refusal(
        "request_too_slow",
        "The request did not arrive within its time, so it was not run.",
        "request_too_slow",
        "Send the whole request at once.",
    )
    large_head = _refusal(
        "request_too_large",
        "The headers of the request are too many or too large.",
        "headers_too_large",
        "Send fewer and shorter headers.",
    )
    return [
        Case(_status(408), too_slow, where="both"),
        Case(_status(431), large_head, where="both"),
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
    late = _refusal(
        "server_timeout",
        f"{server} took longer for the call than it may; the call may have run. {ask}",
        "server_too_slow",
        f"Check before you repeat it, and ask for less in one call. {ask}",
    )
    full = _refusal(
        "server_unavailable",
        f"{server} has as many calls under way as it may; this one did not run. {ask}",
        "server_busy",
        f"Try again in a moment. {ask}",
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
        Case(_flags("OM"), busy, 503, where="both", retry_after_s=SOON_S),
        Case(_flags("UO"), full, 503, retry_after_s=SOON_S),
        Case(_flags("UF", "NC", "UH"), down, 503, retry_after_s=SOON_S),
        Case(_flags("UC", "UR", "LR", "UPE"), lost, 502),
        Case(_flags("SI", "DT"), slow, 504),
        Case(_flags("UT"), late, 504),
        Case(
            _flags("UF", "UO", "NC", "UH", "UC", "UR", "LR", "UPE", "UT"),
            hub,
            503,
            where="hub",
            retry_after_s=SOON_S,
        ),
        Case(_status(EXPIRED), expired, 503, retry_after_s=LATER_S),
        Case(_status(STOPS_UNKNOWN), stops_unknown(str(server), "edge"), 503, retry_after_s=LATER_S),
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


CASES: tuple[Case, ...] = (*_rules(), *_rates(), *_tokens(), *_bodies(), *_addresses(), *_unavailable(), *_anything())
"""Every case, first match first."""
