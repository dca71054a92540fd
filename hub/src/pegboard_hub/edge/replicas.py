"""Several processes of one server: which of them a call goes to.

All replicas of a server are one cluster, so that its limits, its circuit breaker and its figures are the server's.
Which of them count for a request, the route says, by what each is noted with:

| request                     | goes to                                                                          |
|-----------------------------|----------------------------------------------------------------------------------|
| of a legacy session         | the replica whose mark the session's id begins with                              |
| of one whose replica is gone | as any other: that replica tells the client to begin a new session              |
| any other                   | the release in whose buckets the caller is, there the replica with fewest calls |

The bucket is a hash of the verified subject. Envoy looks for a route before any filter runs, when that is not known;
so where a server has callers at two releases the token's filter has it look again (`filters`). What a caller writes
into the header counts at the first look alone, and nothing follows from that.

A release at 0 % has no buckets. Its sessions go on at its replicas, by their marks; who makes one up is told by the
replica that it knows of no such session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from zlib import crc32

from pegboard.core.replicas import BUCKETS, MARKED, Share
from pegboard_hub.edge.envoy import Json, extension, header_input, skip, typed
from pegboard_hub.edge.mutual import Identity, to_one
from pegboard_hub.edge.snapshot import Replica

SESSION = "mcp-session-id"

MODERN = "2026-07-28"
"""The MCP revision that knows no sessions, and whose routing headers the MCP filter verifies by itself."""

_NOTED = "envoy.lb"
"""Namespace in which Envoy's load balancer looks at what endpoints are noted with."""

RELEASE, MARK = "release", "mark"

SUBJECT = "x-pegboard-sub"
"""The verified subject, as the token's filter writes it (`revoked.CLAIM_HEADERS`)."""

_OUTSIDE: Json = {
    "header": {"key": SESSION, "value": f"%UPSTREAM_METADATA({_NOTED}:{MARK})%.%RESP({SESSION})%"},
    "append_action": "OVERWRITE_IF_EXISTS",
}

SESSIONS = "session"
"""Name of the filter that notes a session's mark."""

Way = Callable[[Json], Json]
"""Makes what follows a match, of what its route has beside the server's facts."""


def by_session() -> Json:
    """The filter that notes whose session a request is of, for the load balancer alone.

    Modern requests are in no session, whatever they say: a server does not look at the header either.
    """
    modern = {
        "input": header_input("mcp-protocol-version"),
        "exact_match_map": {"map": {MODERN: {"action": skip()}}},
    }
    noted = {
        "header": SESSION,
        "on_header_present": {
            "metadata_namespace": _NOTED,
            "key": MARK,
            "regex_value_rewrite": {"pattern": {"regex": MARKED}, "substitution": r"\1"},
        },
    }
    return extension(
        SESSIONS,
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=extension(
            "mark", "envoy.extensions.filters.http.header_to_metadata.v3.Config", request_rules=[noted]
        ),
        xds_matcher={"matcher_tree": modern},
    )


def spread(server: str, shares: Sequence[Share], way: Way) -> Json:
    """What follows the match of a server's path, by the caller's bucket.

    Args:
        server: its name.
        shares: the buckets of its releases.
        way: makes the route.
    """
    if not shares:
        return way(_to(RELEASE, ""))  # no replica is noted with it
    first, *more = shares
    begins = [share.end for share in shares]
    found = way(_to(RELEASE, first.release))
    matchers = [
        {"predicate": _from(begin, crc32(server.encode())), "on_match": way(_to(RELEASE, share.release))}
        for begin, share in reversed([*zip(begins, more, strict=False)])
    ]
    return {"matcher": {"matcher_list": {"matchers": matchers}, "on_no_match": found}} if matchers else found


def _from(bucket: int, seed: int) -> Json:
    """The caller's bucket is this one or one behind it."""
    hashed = extension(
        "bucket",
        "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing",
        threshold=bucket,
        modulo=BUCKETS,
        seed=seed,
    )
    return {"single_predicate": {"input": header_input(SUBJECT), "custom_match": hashed}}


def _to(key: str, value: str) -> Json:
    return {"metadata_match": {"filter_metadata": {_NOTED: {key: value}}}}


def of_sessions() -> Json:
    """What a route to replicas has beside its cluster: a session's id leaves with its replica's mark."""
    return {"response_headers_to_add": [_OUTSIDE]}


def cluster_of(name: str, replicas: Sequence[Replica], own: Identity, protocol: Json, *, choosing: bool) -> Json:
    """The cluster of a server's replicas.

    Args:
        name: the cluster's.
        replicas: all of them.
        own: who the edge is to replicas behind ports.
        protocol: how they are spoken to.
        choosing: whether it matters of which release a replica is: there are several, or none takes anybody new.
    """
    named = any(each.host and not _is_ip(each.host) for each in replicas)
    peers = {each.spiffe_id for each in replicas} - {""}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STRICT_DNS" if named else "STATIC",
        **({"dns_lookup_family": "ALL"} if named else {}),
        connect_timeout="3s" if peers else "1s",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": [*map(_endpoint, replicas)]}]},
        **(_AMONG_RELEASES if choosing else _AMONG_REPLICAS if len(replicas) > 1 else {}),
        **_secured(peers, own),
        **protocol,
    )


def behind_one(cluster: Json, address: Json, secured: Callable[[str], Json]) -> Json:
    """The cluster of replicas that are all behind one address, told apart by how that is spoken to.

    Args:
        cluster: as it is where they are reached directly.
        address: where all of them are (Envoy's `core.v3.Address`).
        secured: makes the transport socket of a replica, by its mark.
    """
    marks = [_noted(each)[MARK] for each in _endpoints(cluster)]
    matches = [{"name": mark, "match": {"mark": mark}, "transport_socket": secured(mark)} for mark in marks]
    there = [
        _noted_as({"endpoint": {"address": address}}, _noted(each), {"mark": mark})
        for mark, each in zip(marks, _endpoints(cluster), strict=True)
    ]
    assigned = {**cluster["load_assignment"], "endpoints": [{"lb_endpoints": there}]}
    return {**cluster, "load_assignment": assigned, "transport_socket_matches": matches}


def addresses(cluster: Json) -> list[Json]:
    """Where a cluster's endpoints are."""
    return [each["endpoint"]["address"] for each in _endpoints(cluster)]


def has_replicas(cluster: Json) -> bool:
    """Whether it is the cluster of a server's replicas."""
    return bool(_noted(_endpoints(cluster)[0]))


def has_addresses(cluster: Json) -> bool:
    """Whether all its endpoints are at ports, where each proves who it is, and none at a socket of the instance's."""
    return not any("pipe" in each for each in addresses(cluster))


def with_leaving(cluster: Json, before: Json) -> Json:
    """The cluster with those replicas of the one before it whose release has no other: routes may name it still."""
    known = {_release(each) for each in _endpoints(cluster)}
    leaving = [each for each in _endpoints(before) if _release(each) not in {*known, None}]
    if not leaving or None in known or cluster["type"] != before["type"]:
        return cluster
    locality = {"lb_endpoints": [*_endpoints(cluster), *leaving]}
    assigned = {**cluster["load_assignment"], "endpoints": [locality]}
    return {**cluster, **_AMONG_RELEASES, **_secured_as_well(cluster, before), "load_assignment": assigned}


def _secured_as_well(cluster: Json, before: Json) -> Json:
    """Each replica is spoken to as it was: one that is meant to have TLS never without."""
    known = cluster.get("transport_socket_matches", [])
    more = [
        each
        for each in before.get("transport_socket_matches", [])
        if each["match"] not in [m["match"] for m in known]
    ]
    matches = [{**each, "name": f"peer-{number}"} for number, each in enumerate([*known, *more])]
    return {"transport_socket_matches": matches} if matches else {}


def _endpoints(cluster: Json) -> list[Json]:
    found: list[Json] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return found


def _release(endpoint: Json) -> str | None:
    return _noted(endpoint).get(RELEASE)


def _noted(endpoint: Json) -> dict[str, str]:
    found: dict[str, str] = endpoint.get("metadata", {}).get("filter_metadata", {}).get(_NOTED, {})
    return found


def _endpoint(replica: Replica) -> Json:
    noted = {RELEASE: replica.release, MARK: replica.mark}
    if replica.socket is not None:
        return _noted_as({"endpoint": {"address": {"pipe": {"path": str(replica.socket)}}}}, noted)
    port = {"socket_address": {"address": replica.host, "port_value": replica.port}}
    return _noted_as({"endpoint": {"address": port}}, noted, {"id": replica.spiffe_id})


def _noted_as(endpoint: Json, noted: Json, who: Json | None = None) -> Json:
    """An endpoint with what the load balancer looks at, and with what tells its transport socket."""
    return {**endpoint, "metadata": {"filter_metadata": {_NOTED: noted} | ({_WHO: who} if who else {})}}


_WHO = "envoy.transport_socket_match"


def _secured(peers: Iterable[str], own: Identity) -> Json:
    """Each replica behind a port proves that it is the one that is meant, and not just any other."""
    matches = [
        {"name": f"peer-{number}", "match": {"id": peer}, "transport_socket": to_one(own, peer)}
        for number, peer in enumerate(sorted(peers))
    ]
    return {"transport_socket_matches": matches} if matches else {}


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _policy(name: str, message: str, **fields: Any) -> Json:
    policies = "envoy.load_balancing_policies", "envoy.extensions.load_balancing_policies"
    policy = extension(f"{policies[0]}.{name}", f"{policies[1]}.{name}.v3.{message}", **fields)
    return {"policies": [{"typed_extension_config": policy}]}


def _among(*selectors: Json) -> Json:
    return {
        "load_balancing_policy": _policy(
            "subset",
            "Subset",
            # Where nothing is chosen by: there is one release, or a server gets replicas that had one socket.
            fallback_policy="ANY_ENDPOINT",
            subset_selectors=[*selectors],
            # Of all of them the one with the fewest: one that hangs is given nothing more while another answers.
            subset_lb_policy=_policy("least_request", "LeastRequest", selection_method="FULL_SCAN"),
        ),
        # Who takes no connection has the fewest calls as well, so it is spared at once, as long as there is another.
        "outlier_detection": {
            "consecutive_local_origin_failure": 1,
            "split_external_local_origin_errors": True,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            # How often it is looked whether one is to have calls again: a timer for each server.
            "interval": "5s",
            "base_ejection_time": "1s",
            "max_ejection_time": "5s",
            "max_ejection_percent": 100,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
    }


_AMONG_REPLICAS = _among({"keys": [MARK, RELEASE], "fallback_policy": "ANY_ENDPOINT"})

_AMONG_RELEASES = _among(
    {"keys": [RELEASE], "fallback_policy": "NO_FALLBACK"},
    # Of a session the replica counts, also where it is of another release than the caller's bucket says.
    # The shorter one is first: Envoy forgets the fallback of one that begins another before it.
    {"keys": [MARK], "fallback_policy": "ANY_ENDPOINT"},
    {"keys": [MARK, RELEASE], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": [MARK]},
)
"""Twice the memory of `_AMONG_REPLICAS`, which is why a server has it only while it needs it."""

MOST_RETRIES = 1_000
"""Calls that are tried again at the same time: all that met a replica that has just gone."""


@lru_cache
def breaker(most: int | None) -> Json:
    """The cluster's circuit breaker, with as many calls at once as the server may be given."""
    threshold: Json = {"max_retries": MOST_RETRIES}
    if most is not None:
        # Connections are never what is short: a call would wait for one, and not be refused.
        threshold |= {"max_requests": most, "max_pending_requests": most, "max_connections": 2 * most}
    return {"circuit_breakers": {"thresholds": [threshold]}}


TRIED_AT_ANOTHER: Json = {
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
        }
    ],
    "host_selection_retry_max_attempts": 3,
}
"""What a policy of retries has beside when: not where it was tried already, as long as there is another."""
