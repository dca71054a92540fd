"""Envoy's statistics under our names: a table of what is taken over, and the reading of it.

Envoy tells thousands of lines; these are those an operator watches. Servers have counts alone: with a histogram for
each, ten thousand servers would be two hundred thousand lines a scrape, and a server times its calls itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pegboard.core.metrics import Metric
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.clusters import CLUSTER_PREFIX
from pegboard_hub.edge.filters import AGREEMENT, DOOR, WATCHED
from pegboard_hub.edge.rates import STATUS
from pegboard_hub.edge.revoked import REVOKED
from pegboard_hub.edge.rules import GRANTS, HELD, RULE_NAMES, not_held
from pegboard_hub.edge.stops import STOPPED
from pegboard_hub.telemetry import edge_table as table
from pegboard_hub.telemetry.exposition import Line, Sample, bound_text, lines

PATTERN = (
    r"^(http\.(edge|services)\.(downstream_(rq_[1-5]xx|rq_time|rq_active|cx_active|cx_total|cx_.x_bytes_total)"
    r"|jwt_authn\.|rbac\.|mcp\.requests_rejected|rds\.(pegboard|services)\.update_(rejected|failure))"
    rf"|(http\.(edge|services)\.)?({'|'.join(STATUS)})\.http_local_rate_limit\.rate_limited"
    r"|listener\..*\.downstream_(cx_overload_reject|global_cx_overflow)"
    r"|(cluster_manager\.cds|listener_manager\.lds|extension_config_discovery\..*)\.update_(rejected|failure)"
    rf"|cluster\.{CLUSTER_PREFIX}[^.]*\.upstream_(rq_[1-5]xx|rq_active|rq_timeout|rq_rx_reset|cx_connect_fail)$)"
)
"""Names of the statistics that are asked for. Envoy is asked once, and only for those that ever counted: it looks
through every statistic of every server to answer, which with ten thousand servers takes it a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Row:
    """A statistic of Envoy's that is taken over.

    Attributes:
        metric: as what.
        labels: our labels by Envoy's, or fixed ones where Envoy's name says what we say with a label.
        fixed: labels with their values.
        scale: what a time is multiplied with; Envoy's are milliseconds.
    """

    metric: Metric
    labels: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0


_Key = tuple[Metric, str, tuple[tuple[str, str], ...]]
"""Metric, name and labels of one figure."""

FAILURES = ("connect", "reset", "timeout")
_VALUES = {
    "class": tuple(f"{digit}xx" for digit in range(1, 6)),
    "rule": (REVOKED, DOOR, AGREEMENT, *RULE_NAMES, STOPPED),
    "limit": tuple(STATUS),
}

_CLASS = {"envoy_response_code_class": "class"}
_RULE = {"envoy_rbac_http_prefix": "rule"}
_LIMIT = {"envoy_local_http_ratelimit_prefix": "limit"}
_SERVER = {"envoy_cluster_name": "server"}

_SOURCES = {
    "envoy_cluster_manager_cds": "clusters",
    "envoy_listener_manager_lds": "listener",
    "envoy_http_rds": "routes",
    **{f"envoy_extension_config_discovery_http_filter_{name}": "filters" for name in WATCHED},
}
"""Envoy's words for where its configuration comes from, and ours. It calls rejected what it read and does not take,
and a failure what it could not read."""

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
    "envoy_http_local_rate_limit_rate_limited": Row(table.EDGE_RATE_LIMITED, _LIMIT),
    **{
        f"{name}_update_{how}": Row(table.EDGE_CONFIG_REJECTED, fixed={"source": source})
        for name, source in _SOURCES.items()
        for how in ("rejected", "failure")
    },
    "envoy_cluster_upstream_rq_xx": Row(table.EDGE_SERVER_REQUESTS, _SERVER | _CLASS),
    "envoy_cluster_upstream_rq_active": Row(table.EDGE_SERVER_UNDER_WAY, _SERVER),
    "envoy_cluster_upstream_cx_connect_fail": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "connect"}),
    "envoy_cluster_upstream_rq_rx_reset": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "reset"}),
    "envoy_cluster_upstream_rq_timeout": Row(table.EDGE_SERVER_FAILURES, _SERVER, {"kind": "timeout"}),
}
"""What is taken over, by Envoy's name in Prometheus' format. Figures of one metric with the same labels add up."""


_PASSED = "envoy_http_rbac_policy_allowed"
_PASSED_AS = "envoy_rbac_policy_name"


def _decisions(refuses: str | None) -> dict[tuple[str, str], int]:
    """What it says of each rule that a request passed the rules' one filter as the rule that refuses it."""
    held = RULE_NAMES[: RULE_NAMES.index(refuses)] if refuses else RULE_NAMES
    counted = {(rule, "allowed"): 1 for rule in held}
    # The filter behind it then refused it in the rule's name, and for nothing of its own.
    return counted | ({(refuses, "denied"): 1, (STOPPED, "denied"): -1} if refuses else {})


_RULES = {HELD: _decisions(None)} | {not_held(rule): _decisions(rule) for rule in RULE_NAMES}


class EdgeStatistics:
    """Envoy's statistics as ours."""

    def __init__(self, admin: EnvoyAdmin) -> None:
        self._admin = admin

    async def read(self) -> list[Sample]:
        """The figures now; none when Envoy does not answer."""
        page = await self._admin.statistics(PATTERN)
        # Of thousands of servers the page is long, and the supervisor shares this loop.
        return [] if page is None else await asyncio.to_thread(lambda: list(translated(lines(page))))


def translated(found: Iterable[Line | None]) -> Iterator[Sample]:
    """Envoy's figures as ours. What has not counted yet stands at nothing."""
    sums = _nothing()
    for line in found:
        name, suffix = _without_suffix(line.name) if line else ("", "")
        if line and name == _PASSED:
            for (rule, decision), times in _RULES.get(line.labels.get(_PASSED_AS, ""), {}).items():
                key = _key(table.EDGE_RULES, {"rule": rule, "decision": decision})
                sums[key] = sums.get(key, 0) + times * line.value
        elif line and (row := ROWS.get(name)) and line.labels.get("envoy_rbac_http_prefix") != f"{GRANTS}_":
            key = _key(row.metric, _labels(row, line.labels), suffix)
            sums[key] = sums.get(key, 0) + line.value * (row.scale if suffix == "_sum" else 1)
    for server in {dict(items).get("server") for _, _, items in sums} - {None}:
        for kind in FAILURES:
            sums.setdefault(_key(table.EDGE_SERVER_FAILURES, {"server": str(server), "kind": kind}), 0)
    for (metric, name, items), value in sums.items():
        yield Sample(metric, dict(items), value, name)


def _nothing() -> dict[_Key, float]:
    """Every figure that there is without any server's having been called."""
    sums: dict[_Key, float] = {}
    for row in ROWS.values():
        if "server" not in row.labels.values() and row.metric.kind != "histogram":
            for value in _VALUES.get(next(iter(row.labels.values()), ""), ("",)):
                sums[_key(row.metric, dict.fromkeys(row.labels.values(), value) | dict(row.fixed))] = 0
    return sums


def _key(metric: Metric, labels: Mapping[str, str], suffix: str = "") -> _Key:
    return metric, metric.name + suffix, tuple(sorted(labels.items()))


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
