"""The listener: addresses, the connection manager's strictness, and the access log."""

from __future__ import annotations

from pegboard_hub.edge.envoy import MCP_METADATA, Json, claim, extension, route_fact, typed, watched
from pegboard_hub.edge.filters import http_filters
from pegboard_hub.edge.replies import REASON_HEADER, REQUEST_ID, local_replies
from pegboard_hub.edge.routes import IDLE_S, ROUTES
from pegboard_hub.edge.snapshot import EdgeSnapshot
from pegboard_hub.edge.trace import TRACE_ID, trace_formatter

BUFFER_BYTES = 4 * 1024 * 1024 + 64 * 1024
"""What a connection may buffer: a whole body, because it is read before it is passed on."""

LONGEST_LOGGED = 128
"""Bytes that are logged of what a caller may write at any length. No tool's name, method or revision has as many."""

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
    "mcp_method": f"%DYNAMIC_METADATA({MCP_METADATA}:method):{LONGEST_LOGGED}%",
    "tool": f"%DYNAMIC_METADATA({MCP_METADATA}:params:name):{LONGEST_LOGGED}%",
    "protocol": f"%REQ(mcp-protocol-version):{LONGEST_LOGGED}%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_HOST%",
}
"""One line of the access log. Headers and bodies stay out of it, so a token never gets there."""


def listener(snapshot: EdgeSnapshot) -> Json:
    """The one listener. Nothing in it depends on the registry: changing it would drain every open stream."""
    first, *more = [_address(host, snapshot.port) for host in snapshot.hosts]
    return typed(
        "envoy.config.listener.v3.Listener",
        name="edge",
        address=first,
        additional_addresses=[{"address": address} for address in more],
        # A port that somebody else holds is an error, not something to share silently.
        enable_reuse_port=False,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        filter_chains=[{"filters": [_connection_manager(snapshot)]}],
    )


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _connection_manager(snapshot: EdgeSnapshot) -> Json:
    return extension(
        "http",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        codec_type="AUTO",
        rds={"route_config_name": ROUTES, "config_source": watched(snapshot.folder / "rds.json")},
        http_filters=http_filters(snapshot.folder),
        local_reply_config=local_replies(snapshot.public_url),
        access_log=[_access_log(snapshot)],
        **_strictness(),
        **_identification(),
        **_patience(),
    )


def _strictness() -> Json:
    """One reading of a path and of header names, for edge and servers alike."""
    return {
        "normalize_path": True,
        "merge_slashes": True,
        # The registry's names arrive as com.acme%2Fpresto; unescaping first means that all sides see one path.
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "3600s",
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


def _patience() -> Json:
    return {"stream_idle_timeout": f"{IDLE_S}s", "request_headers_timeout": "30s", "drain_timeout": "5s"}


def _access_log(snapshot: EdgeSnapshot) -> Json:
    return extension(
        "file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(snapshot.access_log),
        log_format={"json_format": LOG_FIELDS, "formatters": [trace_formatter()]},
    )
