"""TLS on the public listener: the pair of the operator's files as Envoy's secret, replaced as a whole.

Certificate and key are two files that somebody replaces one after the other. Envoy is given both in one file, and
only once they belong together, so no handshake ever meets half of a pair; a bad pair leaves the last good one.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.refusal import Refusal
from pegboard_hub.common.certificates import Pair, TlsFiles, open_pair
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.envoy import REASON_HEADER, Json, discovery, extension, typed, watched

logger = logging.getLogger(__name__)

SECRETS = "sds.json"
SECRET = "edge"  # noqa: S105 - a name
HSTS = "max-age=31536000"
"""Browsers that were here once come by TLS alone for a year (RFC 6797)."""

IN_THE_CLEAR = Refusal(
    code="tls_required",
    message="This address is served over TLS alone.",
    layer="edge",
    reason="tls_required",
    what_to_do="Use the https:// address. A token that was sent here went over the network in the clear: sign out.",
)


class Certificate:
    """The pair in use. Blocking: it reads two small files when they changed.

    Attributes:
        fault: why the files are not what is served; empty when they are.
    """

    def __init__(self, home: Home, files: TlsFiles) -> None:
        self.fault = ""
        self._home = home
        self._files = files
        self._seen: tuple[object, ...] | None = None

    def look(self, now: float) -> bool:
        """Take a changed pair over. True when there is one to serve with, this one or an earlier one.

        Raises:
            OSError: Envoy's file cannot be written.
        """
        secrets = self._home.edge / SECRETS
        seen = tuple(_state(path) for path in (self._files.certificate, self._files.key))
        if seen != self._seen or self.fault:
            try:
                self._take(open_pair(self._files, now), secrets)
                self._say("")
            except ConfigurationError as error:
                self._say(str(error))
            self._seen = seen
        return secrets.exists()

    def _take(self, pair: Pair, secrets: Path) -> None:
        text = json.dumps(_secret(pair), separators=(",", ":"))
        if not secrets.exists() or secrets.read_text(encoding="utf-8") != text:
            # The folder's group is the edge's: beside us only Envoy may read a key.
            replace_file(secrets, text, mode=0o640, owner=(os.getuid(), self._home.edge.stat().st_gid))
            replace_file(self._home.edge_certificate, pair.chain)

    def _say(self, fault: str) -> None:
        if fault and fault != self.fault:
            logger.error("the certificate in use stays: %s", fault)
        elif self.fault and not fault:
            logger.warning("the certificate is good again and in use")
        self.fault = fault


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _secret(pair: Pair) -> Json:
    certificate = {"certificate_chain": {"inline_string": pair.chain}, "private_key": {"inline_string": pair.key}}
    return discovery(
        typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=SECRET, tls_certificate=certificate)
    )


def transport_socket(folder: Path) -> Json:
    """The listener's TLS: 1.2 at least, HTTP/2 where a client can."""
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": SECRET, "sds_config": watched(folder / SECRETS)}],
    }
    message = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return extension("tls", message, common_tls_context=common)


def inspector() -> Json:
    """Tells TLS from what is in the clear, by a connection's first bytes."""
    return extension("tls-inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")


def in_the_clear(host: str, port: int, access_log: Json) -> Json:
    """What answers HTTP on the port of TLS: who reads is sent to the right address, and all else is refused."""
    https = {"https_redirect": True, "host_redirect": host, "port_redirect": port}
    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    body = json.dumps({"error": IN_THE_CLEAR.as_json()})
    told = {"content-type": "application/json", REASON_HEADER: IN_THE_CLEAR.reason}
    refusal = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 403, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in told.items()
        ],
    }
    token = {"name": "authorization", "present_match": True, "invert_match": True}
    redirect = {
        "match": {"prefix": "/", "headers": [reads, token]},
        "redirect": {**https, "response_code": "PERMANENT_REDIRECT"},
    }
    return extension(
        "http",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="clear",
        route_config={"virtual_hosts": [{"name": "clear", "domains": ["*"], "routes": [redirect, refusal]}]},
        http_filters=[extension("router", "envoy.extensions.filters.http.router.v3.Router")],
        access_log=[access_log],
        server_name="pegboard",
        request_headers_timeout="10s",
        request_timeout="10s",
        stream_idle_timeout="10s",
        common_http_protocol_options={"idle_timeout": "10s"},
    )
