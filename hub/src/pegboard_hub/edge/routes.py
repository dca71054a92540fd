"""Routes: one exact-match table from path to server, and what happens to every other path."""

from __future__ import annotations

from functools import lru_cache

from pegboard.core.names import MCP_PREFIX, NAME_PATTERN
from pegboard_hub.common.requests import (
    OF_CERTIFICATE,
    PEER_HEADER,
    SPIFFE_ENDS_HEADER,
    SPIFFE_HEADER,
    SPIFFE_ISSUER_HEADER,
)
from pegboard_hub.edge.clusters import HUB, cluster_name
from pegboard_hub.edge.coarse import GENERAL_RULES, SERVER_RULES, of_route
from pegboard_hub.edge.envoy import (
    CERTIFICATE,
    CERTIFICATE_ENDS,
    CERTIFICATE_ISSUER,
    ROUTE_METADATA,
    Json,
    header_input,
    typed,
)
from pegboard_hub.edge.filters import AGREEMENT, BEHIND, DOOR, FOR_SERVERS, switched_off
from pegboard_hub.edge.replicas import SESSIONS, TRIED_AT_ANOTHER, of_sessions, spread
from pegboard_hub.edge.rules import GRANTS, route_facts
from pegboard_hub.edge.snapshot import MEMORY, EdgeServer, EdgeSnapshot
from pegboard_hub.edge.stops import STOPPED as REFUSES_STOPPED
from pegboard_hub.edge.stops import TOOL_STOPS

ROUTES = "pegboard"
"""Name of the public listener's route configuration."""

SERVICE_ROUTES = "services"
"""Name of that of the listener for services."""

FOREIGN = 421
"""Status of the answer for a host that is not ours (RFC 9110 §15.5.20, Misdirected Request)."""

EXPIRED = 599
"""Status of a route whose grants are too old, told apart from every 503 of Envoy's; callers see 503."""

STOPPED = 598
"""Status of the route of a server that is stopped; callers see 403: it is a decision, and trying again is no use."""

STOPS_UNKNOWN = 597
"""Status of a sensitive server's route while a stop may have been missed; callers see 503."""


def _word(header: str, value: str) -> Json:
    """A header that the edge alone writes, over whatever came."""
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


_PEER = _word(PEER_HEADER, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")
_OF_SERVICE = (
    _word(SPIFFE_HEADER, CERTIFICATE),
    _word(SPIFFE_ENDS_HEADER, CERTIFICATE_ENDS),
    _word(SPIFFE_ISSUER_HEADER, CERTIFICATE_ISSUER),
)
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
"""The one path of the hub's on the listener for services."""

AGAIN_UNSENT = "connect-failure,reset-before-request"
"""When a call is tried at its server again: never once a byte of it was sent, for it may have run."""

AGAIN_READS = "connect-failure,refused-stream,reset"
AGAIN_WRITES = "connect-failure,refused-stream,reset-before-request"
"""When a request is tried at another hub (Envoy's `x-envoy-retry-on`): what reads also after it was sent."""

AFTER_SIGN_IN = (
    "cookies",
    "identity",
    DOOR,
    "mcp",
    AGREEMENT,
    GRANTS,
    GENERAL_RULES,
    SERVER_RULES,
    TOOL_STOPS,
    REFUSES_STOPPED,
    *BEHIND,
    SESSIONS,
)
"""What an address without a server does not pass: a token is still wanted, so that nobody can probe for names."""


def route_configuration(snapshot: EdgeSnapshot) -> Json:
    """The route table. A name in the URL's path that is no server asks for a token first, as a server would."""
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=ROUTES,
        virtual_hosts=[
            {
                "name": "public",
                "domains": list(snapshot.host_names),
                "matcher": _paths(snapshot),
                "retry_policy": _again(AGAIN_UNSENT),
            },
            {"name": "foreign", "domains": ["*"], "routes": [_answer(FOREIGN, *FOR_SERVERS)]},
        ],
    )


def service_route_configuration(snapshot: EdgeSnapshot) -> Json:
    """That of the listener for services: every server, and the token endpoint of the hub."""
    token = _on_match(_hub(AGAIN_WRITES if snapshot.more_hubs else "", of_service=True))
    others = {"matcher_list": {"matchers": _others()}}
    matcher = {
        "matcher_tree": {
            "input": header_input(":path"),
            "exact_match_map": {"map": {**_servers(snapshot), TOKEN_PATH: token}},
        },
        "on_no_match": {"matcher": {**others, "on_no_match": _on_match(_answer(404, *FOR_SERVERS))}},
    }
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=SERVICE_ROUTES,
        virtual_hosts=[
            {
                "name": "services",
                "domains": list(snapshot.service_host_names),
                "matcher": matcher,
                "retry_policy": _again(AGAIN_UNSENT),
            },
            {"name": "foreign", "domains": ["*"], "routes": [_answer(FOREIGN, *FOR_SERVERS)]},
        ],
    )


def _paths(snapshot: EdgeSnapshot) -> Json:
    servers = _servers(snapshot)
    others = {"matcher": {"matcher_list": {"matchers": _others()}, "on_no_match": _on_match(_hub())}}
    if snapshot.more_hubs:
        others = {"matcher": {"matcher_list": {"matchers": _others()}, "on_no_match": _hubs()}}
    if not servers:
        return others["matcher"]
    tree = {"input": header_input(":path"), "exact_match_map": {"map": servers}}
    return {"matcher_tree": tree, "on_no_match": others}


def _servers(snapshot: EdgeSnapshot) -> Json:
    """The servers' routes by their paths, the same on both listeners."""
    ages = (snapshot.expired, snapshot.stops_unknown)
    times = {name: limit.timeout_s for name, limit in snapshot.limits.servers.items()}
    return {s.access.server.path: _server(s, *ages, times.get(str(s.access.server))) for s in snapshot.servers}


def _others() -> list[Json]:
    """Paths that are no server's: a well-formed name asks for a token, all else under /mcp/ is no address at all.

    The difference matters: an answer that asks for a token names the path, so a path that could break out of the
    header's quotes never gets that far.
    """
    named = rf"{MCP_PREFIX}{NAME_PATTERN}/{NAME_PATTERN}(\?.*)?"
    return [
        _when({"safe_regex": {"google_re2": {}, "regex": named}}, _answer(404, *AFTER_SIGN_IN)),
        _when({"prefix": MCP_PREFIX}, _answer(404, *FOR_SERVERS)),
    ]


@lru_cache(MEMORY)
def _server(server: EdgeServer, expired: bool, stops_unknown: bool, timeout_s: float | None) -> Json:
    """A server's route: the facts its rules compare with, and its cluster. Filters are all on by default."""
    facts = {"filter_metadata": {ROUTE_METADATA: route_facts(server.access)}}
    if expired:
        return _on_match(_answer(EXPIRED, *AFTER_SIGN_IN) | {"metadata": facts})
    if stops_unknown and server.access.sensitive:
        return _on_match(_answer(STOPS_UNKNOWN, *AFTER_SIGN_IN) | {"metadata": facts})
    ruled = of_route(server.access.rules.deny, stopped=bool(server.access.stopped))
    about: Json = {"metadata": facts} | ({"typed_per_filter_config": ruled} if ruled else {})
    if server.access.stopped:
        return _on_match(_route(direct_response={"status": STOPPED}, **about))
    # As long as it speaks (the listener ends silence): a legacy stream stays open for hours.
    unbounded: Json = {"cluster": cluster_name(server.access.server), "timeout": "0s"}
    if not server.replicas:
        return _in_time(unbounded, about, timeout_s)
    unbounded |= {"retry_policy": _again(AGAIN_UNSENT, 4) | TRIED_AT_ANOTHER}
    about |= of_sessions()
    name = str(server.access.server)
    return spread(name, server.shares, lambda to: _in_time(unbounded | to, about, timeout_s))


def _in_time(unbounded: Json, about: Json, timeout_s: float | None) -> Json:
    if timeout_s is None:
        return _on_match(_route(route=unbounded, **about))
    stream = _when({"exact": "GET"}, _route(route=unbounded, **about), ":method")
    call = _route(route={**unbounded, "timeout": f"{timeout_s}s"}, **about)
    return {"matcher": {"matcher_list": {"matchers": [stream]}, "on_no_match": _on_match(call)}}


def _again(on: str, times: int = 2) -> Json:
    return {
        "retry_on": on,
        "num_retries": times,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }


def _hub(retried_on: str = "", of_service: bool = False) -> Json:
    policy = _again(retried_on) | TRIED_AT_ANOTHER
    return _route(
        request_headers_to_add=[_PEER, *(_OF_SERVICE if of_service else ())],
        # Stripped like all of our headers already; here once more, for what they are believed about.
        **({} if of_service else {"request_headers_to_remove": [*OF_CERTIFICATE]}),
        route={"cluster": HUB, "timeout": "60s", **({"retry_policy": policy} if retried_on else {})},
        typed_per_filter_config=switched_off(*FOR_SERVERS),
    )


def _hubs() -> Json:
    """The way to one of several hubs: what reads is asked again of another, what writes only if it was never sent."""
    reads = [_when({"exact": method}, _hub(AGAIN_READS), ":method") for method in ("GET", "HEAD")]
    return {"matcher": {"matcher_list": {"matchers": reads}, "on_no_match": _on_match(_hub(AGAIN_WRITES))}}


def _answer(status: int, *off: str) -> Json:
    """A route that Envoy answers itself; the words come from `replies`."""
    return _route(direct_response={"status": status}, typed_per_filter_config=switched_off(*off))


def _route(**fields: object) -> Json:
    return {"match": {"prefix": "/"}, **fields}


def _on_match(route: Json) -> Json:
    return {"action": {"name": "route", "typed_config": typed("envoy.config.route.v3.Route", **route)}}


def _when(value: Json, route: Json, header: str = ":path") -> Json:
    predicate = {"single_predicate": {"input": header_input(header), "value_match": value}}
    return {"predicate": predicate, "on_match": _on_match(route)}
