"""Routes: one exact-match table from path to server, and what happens to every other path."""

from __future__ import annotations

from functools import lru_cache

from pegboard.core.names import MCP_PREFIX, NAME_PATTERN
from pegboard_hub.common.requests import PEER_HEADER
from pegboard_hub.edge.clusters import HUB, cluster_name
from pegboard_hub.edge.envoy import ROUTE_METADATA, Json, header_input, typed
from pegboard_hub.edge.filters import AGREEMENT, FOR_SERVERS, switched_off
from pegboard_hub.edge.rules import RULE_NAMES, route_facts
from pegboard_hub.edge.snapshot import MEMORY, EdgeServer, EdgeSnapshot

ROUTES = "pegboard"
"""Name of the one route configuration."""

IDLE_S = 300
"""Seconds a call, or a stream, may be silent."""

FOREIGN = 421
"""Status of the answer for a host that is not ours (RFC 9110 §15.5.20, Misdirected Request)."""

EXPIRED = 599
"""Status of a route whose grants are too old, told apart from every 503 of Envoy's; callers see 503."""

STOPPED = 598
"""Status of the route of a server that is stopped; callers see 403: it is a decision, and trying again is no use."""

STOPS_UNKNOWN = 597
"""Status of a sensitive server's route while a stop may have been missed; callers see 503."""

_PEER: Json = {
    "header": {"key": PEER_HEADER, "value": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
AGAIN_READS = "connect-failure,refused-stream,reset"
AGAIN_WRITES = "connect-failure,refused-stream,reset-before-request"
"""When a request is tried at another hub (Envoy's `x-envoy-retry-on`): what reads also after it was sent."""

AFTER_SIGN_IN = ("cookies", "identity", "mcp", AGREEMENT, *RULE_NAMES)
"""What an address without a server does not pass: a token is still wanted, so that nobody can probe for names."""


def route_configuration(snapshot: EdgeSnapshot) -> Json:
    """The route table. A name in the URL's path that is no server asks for a token first, as a server would."""
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=ROUTES,
        virtual_hosts=[
            {"name": "public", "domains": list(snapshot.host_names), "matcher": _paths(snapshot)},
            {"name": "foreign", "domains": ["*"], "routes": [_answer(FOREIGN, *FOR_SERVERS)]},
        ],
    )


def _paths(snapshot: EdgeSnapshot) -> Json:
    ages = (snapshot.expired, snapshot.stops_unknown)
    servers = {s.access.server.path: _server(s, *ages) for s in snapshot.servers}
    others = {"matcher": {"matcher_list": {"matchers": _others()}, "on_no_match": _on_match(_hub())}}
    if snapshot.more_hubs:
        others = {"matcher": {"matcher_list": {"matchers": _others()}, "on_no_match": _hubs()}}
    if not servers:
        return others["matcher"]
    tree = {"input": header_input(":path"), "exact_match_map": {"map": servers}}
    return {"matcher_tree": tree, "on_no_match": others}


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
def _server(server: EdgeServer, expired: bool, stops_unknown: bool) -> Json:
    """A server's route: the facts its rules compare with, and its cluster. Filters are all on by default."""
    facts = {"filter_metadata": {ROUTE_METADATA: route_facts(server.access)}}
    if expired:
        return _on_match(_answer(EXPIRED, *AFTER_SIGN_IN) | {"metadata": facts})
    if stops_unknown and server.access.sensitive:
        return _on_match(_answer(STOPS_UNKNOWN, *AFTER_SIGN_IN) | {"metadata": facts})
    if server.access.stopped:
        return _on_match(_route(direct_response={"status": STOPPED}, metadata=facts))
    action = {
        "cluster": cluster_name(server.access.server),
        # As long as it speaks (the listener ends silence): a legacy stream stays open for hours.
        "timeout": "0s",
    }
    return _on_match(_route(route=action, metadata=facts))


def _hub(retried_on: str = "") -> Json:
    policy: Json = {
        "retry_on": retried_on,
        "num_retries": 2,
        "retry_host_predicate": [_PREVIOUS_HOSTS],
        "host_selection_retry_max_attempts": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }
    return _route(
        request_headers_to_add=[_PEER],
        route={"cluster": HUB, "timeout": "60s", **({"retry_policy": policy} if retried_on else {})},
        typed_per_filter_config=switched_off(*FOR_SERVERS),
    )


def _hubs() -> Json:
    """The way to one of several hubs: what reads is asked again of another, what writes only if it was never sent."""
    reads = [_when({"exact": method}, _hub(AGAIN_READS), ":method") for method in ("GET", "HEAD")]
    return {"matcher": {"matcher_list": {"matchers": reads}, "on_no_match": _on_match(_hub(AGAIN_WRITES))}}


_PREVIOUS_HOSTS: Json = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
}


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
