"""The listeners: addresses, the connection manager's strictness, and the access log."""

from __future__ import annotations

from pegboard_hub.edge.envoy import (
    CERTIFICATE,
    MCP_METADATA,
    REASON_HEADER,
    Json,
    claim,
    extension,
    route_fact,
    typed,
    watched,
)
from pegboard_hub.edge.filters import Side, http_filters
from pegboard_hub.edge.mutual import mutual_tls
from pegboard_hub.edge.replies import REQUEST_ID, local_replies
from pegboard_hub.edge.routes import ROUTES, SERVICE_ROUTES
from pegboard_hub.edge.snapshot import EdgeSnapshot, Patience, ServicesDoor
from pegboard_hub.edge.tls import in_the_clear, inspector, transport_socket
from pegboard_hub.edge.trace import TRACE_ID, trace_formatter

BUFFER_BYTES = 4 * 1024 * 1024 + 64 * 1024
"""What a connection may buffer: a whole body, because it is read before it is passed on."""

MOST_HEADER_KB = 32
"""Kilobytes of a request's head: a token has 8 at most, and the rest is the client's own."""

MOST_HEADERS = 100
"""Header fields of one request."""

MOST_STREAMS = 100
"""Requests at once in one HTTP/2 connection."""

WINDOW_BYTES = 64 * 1024
"""What an HTTP/2 caller may send of one request before it is read; of a connection, sixteen times that."""

LONGEST_LOGGED = 128
"""Bytes that are logged of what a caller may write at any length. No tool's name, method or revision has as many."""

CONNECTION_S = 600
"""Seconds after which a service's connection is closed behind the answer under way. Whose certificate was let in then
shows it anew: one that has expired, or whose trust domain is not trusted any more, opens nothing."""

_FOR_A_WHILE: Json = {"http1_safe_max_connection_duration": True}
"""A connection past its time is closed once a call is answered, and never under one (HTTP/1.1)."""

_ROUTES: dict[Side, tuple[str, str, str]] = {
    "public": ("edge", ROUTES, "rds.json"),
    "services": ("services", SERVICE_ROUTES, "rds-services.json"),
}
"""Of each listener: what its statistics are called, its routes, and the file these are in."""

LOG_FIELDS: Json = {
    "at": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "request_id": REQUEST_ID,
    "trace_id": TRACE_ID,
    "traceparent": "%REQ(traceparent):64%",
    "connection": "%CONNECTION_ID%",
    "method": f"%REQ(:method):{LONGEST_LOGGED}%",
    # Cut, so that what somebody puts into a path, a token perhaps, does not stand whole in the log.
    "path": "%PATH(NQ):256%",
    "server": route_fact("server"),
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "reason": f"%RESP({REASON_HEADER})%",
    "sub": claim("sub"),
    "sub_type": claim("sub_type"),
    "surface": claim("surface"),
    "channel": claim("channel"),
    "client_id": claim("client_id"),
    "act": claim("act", "sub"),
    "mcp_method": f"%DYNAMIC_METADATA({MCP_METADATA}:method):{LONGEST_LOGGED}%",
    "tool": f"%DYNAMIC_METADATA({MCP_METADATA}:params:name):{LONGEST_LOGGED}%",
    "protocol": f"%REQ(mcp-protocol-version):{LONGEST_LOGGED}%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_HOST%",
}
"""One line of the access log. Headers and bodies stay out of it, so a token never gets there.

What a request has nothing of is null where it is a number, and empty text where it is text.
"""

_NUMBERS = ("connection", "status", "duration_ms", "bytes_in", "bytes_out")

_NOTHING = "%CUSTOM_FLAGS%"
"""Flags that some filters of Envoy set, and none of ours: it prints as nothing. Beside another placeholder it makes
Envoy write that one as text straight away. Alone each would be a value first, which costs a call as much again as its
token and rules (`bench/edge.py`). Either way Envoy escapes what it writes."""


def listener(snapshot: EdgeSnapshot) -> Json:
    """The public listener. Nothing in it depends on the registry: changing it would drain every open stream."""
    return _listener(snapshot, "edge", snapshot.port, _chains(snapshot))


def service_listener(snapshot: EdgeSnapshot, door: ServicesDoor) -> Json:
    """The listener for services: TLS with a certificate of a trust domain, or nothing."""
    chain = _chain(snapshot, "services") | {"transport_socket": mutual_tls(door.identity)}
    return _listener(snapshot, "services", door.port, {"filter_chains": [chain]})


def _listener(snapshot: EdgeSnapshot, name: str, port: int, chains: Json) -> Json:
    first, *more = [_address(host, port) for host in snapshot.hosts]
    return typed(
        "envoy.config.listener.v3.Listener",
        name=name,
        address=first,
        additional_addresses=[{"address": address} for address in more],
        # A port that somebody else holds is an error, not something to share silently.
        enable_reuse_port=False,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        **chains,
    )


def _chain(snapshot: EdgeSnapshot, side: Side) -> Json:
    return {
        "filters": [_connection_manager(snapshot, side)],
        "transport_socket_connect_timeout": f"{snapshot.patience.head_s}s",
    }


def _chains(snapshot: EdgeSnapshot) -> Json:
    chain = _chain(snapshot, "public")
    if not snapshot.tls:
        return {"filter_chains": [chain]}
    host, port = snapshot.host_names[0], snapshot.public_port
    secure = {
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": transport_socket(snapshot.folder),
    }
    clear = {
        "filter_chain_match": {"transport_protocol": "raw_buffer"},
        "filters": [in_the_clear(host, port, _access_log(snapshot, "public"))],
    }
    return {
        "listener_filters": [inspector()],
        "listener_filters_timeout": f"{snapshot.patience.head_s}s",
        "filter_chains": [chain | secure, clear],
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _connection_manager(snapshot: EdgeSnapshot, side: Side) -> Json:
    statistics, routes, file = _ROUTES[side]
    return extension(
        "http",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=statistics,
        codec_type="AUTO",
        rds={"route_config_name": routes, "config_source": watched(snapshot.folder / file)},
        http_filters=http_filters(
            snapshot.folder,
            snapshot.public_url,
            side,
            secure=side == "public" and snapshot.public_url.startswith("https://"),
        ),
        local_reply_config=local_replies(snapshot.public_url),
        access_log=[_access_log(snapshot, side)],
        **_strictness(side, snapshot.patience),
        **_identification(),
        **_patience(snapshot.patience),
        **(_FOR_A_WHILE if side == "services" else {}),
    )


def _strictness(side: Side, patience: Patience) -> Json:
    """One reading of a path and of header names, for edge and servers alike."""
    return {
        "normalize_path": True,
        "merge_slashes": True,
        # The registry's names arrive as com.acme%2Fpresto; unescaping first means that all sides see one path.
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": f"{patience.unused_s}s",
            "max_headers_count": MOST_HEADERS,
            **({"max_connection_duration": f"{CONNECTION_S}s"} if side == "services" else {}),
        },
        "max_request_headers_kb": MOST_HEADER_KB,
        "http2_protocol_options": {
            "max_concurrent_streams": MOST_STREAMS,
            "initial_stream_window_size": WINDOW_BYTES,
            "initial_connection_window_size": 16 * WINDOW_BYTES,
        },
        "http_protocol_options": {"allow_chunked_length": False},
        "server_name": "pegboard",
    }


def _identification() -> Json:
    """Nobody is trusted to name a request or its origin: every id is made here and told to the caller."""
    return {
        "use_remote_address": True,
        # Without a range of its own Envoy believes every private address; nobody has this one.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "always_set_request_id_in_response": True,
    }


def _patience(patience: Patience) -> Json:
    """A request must arrive within its time, whatever it trickles; an answer may take as long as it speaks."""
    return {
        "request_headers_timeout": f"{patience.head_s}s",
        "request_timeout": f"{patience.request_s}s",
        "stream_idle_timeout": f"{patience.idle_s}s",
        "drain_timeout": "5s",
    }


def _access_log(snapshot: EdgeSnapshot, side: Side) -> Json:
    return extension(
        "file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(snapshot.access_log),
        log_format={
            "json_format": {
                name: value if name in _NUMBERS else f"{value}{_NOTHING}"
                for name, value in (LOG_FIELDS | _OF_SIDE[side]).items()
            },
            "omit_empty_values": True,
            "formatters": [trace_formatter()],
        },
    )


_OF_SIDE: dict[Side, Json] = {"public": {}, "services": {"certificate": CERTIFICATE}}
