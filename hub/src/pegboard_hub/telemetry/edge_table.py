"""The metrics of the edge: what is taken over of Envoy's own, and what the agent beside it knows."""

from __future__ import annotations

from pegboard.core.metrics import Metric

ENVOY_BUCKETS = (
    *(0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 600.0, 1800.0, 3600.0),
)
"""Envoy's own bounds, in seconds."""

EDGE_REQUESTS = Metric(
    "pegboard_edge_requests_total",
    "counter",
    ("class",),
    "Requests the edge answered, by class of status.",
    "requests",
)
EDGE_REQUEST_SECONDS = Metric(
    "pegboard_edge_request_seconds",
    "histogram",
    (),
    "From a request's first byte to the end of its answer; streams count when they end.",
    "seconds",
    ENVOY_BUCKETS,
)
EDGE_UNDER_WAY = Metric(
    "pegboard_edge_requests_under_way", "gauge", (), "Requests and streams at the edge now.", "requests"
)
EDGE_CONNECTIONS = Metric("pegboard_edge_connections_open", "gauge", (), "Callers' connections now.", "connections")
EDGE_CONNECTIONS_TOTAL = Metric(
    "pegboard_edge_connections_total", "counter", (), "Callers' connections that were opened.", "connections"
)
EDGE_CONNECTIONS_REFUSED = Metric(
    "pegboard_edge_connections_refused_total",
    "counter",
    (),
    "Connections that were closed because there were too many.",
    "connections",
)
EDGE_RECEIVED = Metric("pegboard_edge_received_bytes_total", "counter", (), "Bytes from callers.", "bytes")
EDGE_SENT = Metric("pegboard_edge_sent_bytes_total", "counter", (), "Bytes to callers.", "bytes")
EDGE_TOKENS = Metric(
    "pegboard_edge_tokens_total", "counter", ("verdict",), "Tokens the edge verified: `good` or `bad`.", "tokens"
)
EDGE_TOKEN_CACHE = Metric(
    "pegboard_edge_token_cache_total",
    "counter",
    ("result",),
    "Whether a token was verified before: `hit` or `miss`.",
    "tokens",
)
EDGE_RULES = Metric(
    "pegboard_edge_rules_total",
    "counter",
    ("rule", "decision"),
    "Decisions of each rule of layer 1: `allowed` or `denied`. A request that one denies does not come to the next.",
    "requests",
)
EDGE_BODIES_REFUSED = Metric(
    "pegboard_edge_bodies_refused_total",
    "counter",
    (),
    "Requests whose body is no well-formed MCP message, or means two things.",
    "requests",
)
EDGE_RATE_LIMITED = Metric(
    "pegboard_edge_rate_limited_total",
    "counter",
    ("limit",),
    "Requests that a rate refused, by whose it is: `address`, `person`, `surface` or `server`.",
    "requests",
)
EDGE_CONFIG_REJECTED = Metric(
    "pegboard_edge_config_rejected_total",
    "counter",
    ("source",),
    "Configurations that Envoy did not take, so that it goes on with the one before.",
    "configurations",
)
EDGE_SERVER_REQUESTS = Metric(
    "pegboard_edge_server_requests_total",
    "counter",
    ("server", "class"),
    "Requests the edge passed on to a server; only servers that were called since the edge started.",
    "requests",
)
EDGE_SERVER_FAILURES = Metric(
    "pegboard_edge_server_failures_total",
    "counter",
    ("server", "kind"),
    "A server could not be reached (`connect`), ended the connection (`reset`), or was silent too long (`timeout`).",
    "requests",
)
EDGE_SERVER_UNDER_WAY = Metric(
    "pegboard_edge_server_requests_under_way", "gauge", ("server",), "Requests at a server now.", "requests"
)
EDGE_BUNDLE_VERSION = Metric(
    "pegboard_edge_bundle_version", "gauge", (), "Version of the edge's bundle in use.", "version"
)
EDGE_BUNDLE_ISSUED = Metric(
    "pegboard_edge_bundle_issued_timestamp_seconds",
    "gauge",
    (),
    "When the edge's bundle in use was signed.",
    "seconds since 1970",
)
EDGE_BUNDLE_MAX_AGE = Metric(
    "pegboard_edge_bundle_max_age_seconds",
    "gauge",
    (),
    "The age from which on the edge refuses everything.",
    "seconds",
)
EDGE_LOG_UNREAD = Metric(
    "pegboard_edge_log_unread_bytes",
    "gauge",
    (),
    "What of the access log the ledger does not have the refusals of yet.",
    "bytes",
)
EDGE_REFUSALS_THINNED = Metric(
    "pegboard_edge_refusals_thinned_total",
    "counter",
    (),
    "Refusals the ledger was not told of, because it was told of so many of the kind in that second.",
    "requests",
)

ENVOY_METRICS = (
    EDGE_REQUESTS,
    EDGE_REQUEST_SECONDS,
    EDGE_UNDER_WAY,
    EDGE_CONNECTIONS,
    EDGE_CONNECTIONS_TOTAL,
    EDGE_CONNECTIONS_REFUSED,
    EDGE_RECEIVED,
    EDGE_SENT,
    EDGE_TOKENS,
    EDGE_TOKEN_CACHE,
    EDGE_RULES,
    EDGE_BODIES_REFUSED,
    EDGE_RATE_LIMITED,
    EDGE_CONFIG_REJECTED,
    EDGE_SERVER_REQUESTS,
    EDGE_SERVER_FAILURES,
    EDGE_SERVER_UNDER_WAY,
)
"""What is taken over of Envoy's own statistics."""

AGENT_METRICS = (EDGE_BUNDLE_VERSION, EDGE_BUNDLE_ISSUED, EDGE_BUNDLE_MAX_AGE, EDGE_LOG_UNREAD, EDGE_REFUSALS_THINNED)
"""What the agent beside Envoy knows."""
