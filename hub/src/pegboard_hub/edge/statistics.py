"""Envoy's statistics under our names: a table of what is taken over, and the reading of it.

Envoy tells thousands of lines; these are those an operator watches. Servers have counts alone: with a histogram for
each, ten thousand servers would be two hundred thousand lines a scrape, and a server times its calls itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pegboard.core.metrics import Metric
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.clusters import CLUSTER_PREFIX
from pegboard_hub.telemetry import table
from pegboard_hub.telemetry.exposition import Line, Sample, bound_text, lines

EVERYTHING = (
    r"^(http\.edge\.(downstream_(rq_[1-5]xx|rq_time|rq_active|cx_active|cx_total|cx_.x_bytes_total)"
    r"|jwt_authn\.|rbac\.|mcp\.requests_rejected|rds\.pegboard\.update_rejected)"
    r"|listener\..*\.downstream_(cx_overload_reject|global_cx_overflow)"
    r"|(cluster_manager\.cds|listener_manager\.lds|extension_config_discovery\..*)\.update_rejected)"
)
"""Names of the statistics that do not grow with the servers."""

SERVERS = (
    rf"^cluster\.{CLUSTER_PREFIX}.*\.upstream_"
    r"(rq_[1-5]xx|rq_active|rq_timeout|rq_rx_reset|cx_connect_fail)$"
)
"""Names of the statistics of servers; only of those that were called since Envoy started."""


@dataclass(frozen=True, slots=True)
class Row:
    """A statistic of Envoy's that is taken over.

    Attributes:
        metric: as what.
        labels: our labels by Envoy's, or fixed ones where Envoy's name says what we say with a label.
        fixed: labels with their values.
        scale: what a value is multiplied with; Envoy's times are milliseconds.
    """

    metric: Metric
    labels: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0


_CLASS = {"envoy_response_code_class": "class"}
_RULE = {"envoy_rbac_http_prefix": "rule"}
_SERVER = {"envoy_cluster_name": "server"}

ROWS: Mapping[str, Row] = {
    "envoy_http_downstream_rq_xx": Row(table.EDGE_REQUESTS, _CLASS),
    "envoy_http_downstream_rq_time": Row(table.EDGE_REQUEST_SECONDS, scale=0.001),
    "envoy_http_downstream_rq_active": Row(table.EDGE_UNDER_WAY),
    "envoy_http_downstream_cx_active": Row(table.EDGE_CONNECTIONS),
    "envoy_http_downstream_cx_total": Row(table.EDGE_CONNECTIONS_TOTAL),
    "envoy_listener_downstream_cx_overload_reject": Row(table.EDGE_CONNECTIONS_REFUSED),
    "envoy_listener_downstream_global_cx_overflow": Row(table.EDGE_CONNECTIONS_REFUSED),
    "envoy_http_downstream_cx_rx_bytes_total": Row(table.EDGE_RECEIVED),
    "envoy_http_downstream_cx_tx_bytes_total": Row(table.EDGE_SENT),
    "envoy_http_jwt_authn_allowed": Row(table.EDGE_TOKENS, fixed={"verdict": "good"}),
    "envoy_http_jwt_authn_denied": Row(table.EDGE_TOKENS, fixed={"verdict": "bad"}),
    "envoy_http_jwt_authn_jwt_cache_hit": Row(table.EDGE_TOKEN_CACHE, fixed={"result": "hit"}),
    "envoy_http_jwt_authn_jwt_cache_miss": Row(table.EDGE_TOKEN_CACHE, fixed={"result": "miss"}),
    "envoy_http_rbac_allowed": Row(table.EDGE_RULES, _RULE, {"decision": "allowed"}),
    "envoy_http_rbac_denied": Row(table.EDGE_RULES, _RULE, {"decision": "denied"}),
    "envoy_http_mcp_requests_rejected": Row(table.EDGE_BODIES_REFUSED),
    "envoy_cluster_manager_cds_update_rejected": Row(table.EDGE_CONFIG_REJECTED, fixed={"source": "clusters"}),
    "envoy_listener_manager_lds_update_rejected": Row(table.EDGE_CONFIG_REJECTED, fixed={"source": "listener"}),
    "envoy_http_rds_update_rejected": Row(table.EDGE_CONFIG_REJECTED, fixed={"source": "routes"}),
    "envoy_extension_config_discovery_update_rejected": Row(table.EDGE_CONFIG_REJECTED, fixed={"source": "filters"}),
    "envoy_cluster_upstream_rq_xx": Row(table.EDGE_SERVER_REQUESTS, _SERVER | _CLASS),
    "envoy_cluster_upstream_rq_active": Row(table.EDGE_SERVER_UNDER_WAY, _SERVER),
    "envoy_cluster_upstream_cx_connect_fail": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "connect"}),
    "envoy_cluster_upstream_rq_rx_reset": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "reset"}),
    "envoy_cluster_upstream_rq_timeout": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "timeout"}),
}
"""What is taken over, by Envoy's name in Prometheus' format. Figures of one metric with the same labels add up."""


class EdgeStatistics:
    """Envoy's statistics as ours."""

    def __init__(self, admin: EnvoyAdmin) -> None:
        self._admin = admin

    async def read(self) -> list[Sample]:
        """The figures now; none when Envoy does not answer."""
        everything = await self._admin.statistics(EVERYTHING, used_only=False)
        servers = await self._admin.statistics(SERVERS, used_only=True)
        return list(translated([*lines(everything), *lines(servers)]))


def translated(found: Iterable[Line | None]) -> Iterator[Sample]:
    """Envoy's figures as ours."""
    sums: defaultdict[tuple[Metric, str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
    for line in found:
        if line is not None:
            name, suffix = _without_suffix(line.name)
            row = ROWS.get(name)
            if row is not None:
                labels = _labels(row, line.labels)
                scale = 1.0 if suffix in ("_bucket", "_count") else row.scale
                sums[row.metric, row.metric.name + suffix, tuple(labels.items())] += line.value * scale
    for (metric, name, items), value in sums.items():
        yield Sample(metric, dict(items), value, name)


def _without_suffix(name: str) -> tuple[str, str]:
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix) and name.removesuffix(suffix) in ROWS:
            return name.removesuffix(suffix), suffix
    return name, ""


def _labels(row: Row, theirs: Mapping[str, str]) -> dict[str, str]:
    labels = {ours: _value(ours, theirs.get(name, "")) for name, ours in row.labels.items()} | dict(row.fixed)
    if (bound := theirs.get("le")) is not None:
        labels["le"] = bound if bound == "+Inf" else bound_text(round(float(bound) * row.scale, 6))
    return labels


def _value(label: str, text: str) -> str:
    match label:
        case "server":
            return text.removeprefix(CLUSTER_PREFIX)
        case "rule":
            return text.removesuffix("_")
        case "class":
            return f"{text}xx"
    return text
