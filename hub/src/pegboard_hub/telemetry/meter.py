"""What the hub counts itself. Its parts tell the meter; the page of metrics asks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from pegboard.core.metrics import OTHER, Metric
from pegboard.core.names import SURFACES
from pegboard_hub.telemetry import table
from pegboard_hub.telemetry.table import HUB_METRICS

_PLACES = (
    ("/api/v1/", "api"),
    ("/v0.1/", "api"),
    ("/oauth/", "sign-in"),
    ("/.well-known/", "sign-in"),
    ("/static/", "static"),
    ("/internal/v1/records", "records"),
    ("/internal/v1/edge/refusals", "refusals"),
    ("/internal/v1/health", "health"),
    ("/internal/v1/approvals/", "approvals"),
    ("/internal/", "operator"),
    ("/healthz", "probes"),
    ("/readyz", "probes"),
    ("/metrics", "metrics"),
)
"""Classes of routes by how a path begins, first match first. All other paths that are there are pages."""


class HubMeter:
    """Counts and times what the hub does (`telemetry.table.HUB_METRICS`)."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        makers = {"counter": Counter, "gauge": Gauge}
        self._metrics: dict[Metric, Counter | Gauge | Histogram] = {
            metric: makers[metric.kind](metric.name, metric.help, metric.labels, registry=self._registry)
            for metric in HUB_METRICS
            if metric.kind in makers
        } | {
            metric: Histogram(
                metric.name, metric.help, metric.labels, registry=self._registry, buckets=metric.buckets
            )
            for metric in HUB_METRICS
            if metric.kind == "histogram"
        }
        self.set(table.HUB_STARTED, time.time())

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Count further."""
        child = self._of(metric, labels)
        assert isinstance(child, Counter)  # noqa: S101 - the table says so
        child.inc(by)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Note one value of a histogram; one below nothing, as by two clocks that differ, counts as nothing."""
        child = self._of(metric, labels)
        assert isinstance(child, Histogram)  # noqa: S101 - the table says so
        child.observe(max(value, 0.0))

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """What a gauge shows until it is set again."""
        child = self._of(metric, labels)
        assert isinstance(child, Gauge)  # noqa: S101 - the table says so
        child.set(value)

    def forget(self, metric: Metric) -> None:
        """Let a gauge with labels show nothing until it is set again."""
        self._metrics[metric].clear()

    def watch(self, metric: Metric, value: Callable[[], float], *labels: str) -> None:
        """Let a gauge show what `value` says whenever the page is asked for."""
        child = self._of(metric, labels)
        assert isinstance(child, Gauge)  # noqa: S101 - the table says so
        child.set_function(value)

    @contextmanager
    def timed(self, metric: Metric, *labels: str) -> Iterator[None]:
        """Time the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(metric, time.perf_counter() - began, *labels)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        route = route_class(path, status)
        self.count(table.HUB_REQUESTS, route, str(status))
        self.observe(table.HUB_REQUEST_SECONDS, seconds, route)

    def token_issued(self, surface: str) -> None:
        """A token was issued."""
        self.count(table.TOKENS_ISSUED, surface if surface in SURFACES else OTHER)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        whole = self._metrics[metric]
        return whole.labels(*labels) if labels else whole


def route_class(path: str, status: int) -> str:
    """The class of a route; `other` is whatever is not there, under any name."""
    known = next((kind for begin, kind in _PLACES if path.startswith(begin)), None)
    return known or (OTHER if status in (404, 405) else "pages")
