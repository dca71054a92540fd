"""The meter of a server process, and its page of metrics. The one door to prometheus_client in the kit.

Counting a call costs some microseconds: the children of each metric are looked up once and kept, and the table has
bounded sets of label values, so there are never many. Nothing here is a decision, and no label names a person.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from pegboard.core import metrics
from pegboard.core.metrics import LABELS, OTHER, SERVER_METRICS, STEPS, UNKNOWN_TOOL, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, which every scraper reads."""


class ServerMeter:
    """Counts and times what one server process does (`core.metrics.SERVER_METRICS`)."""

    def __init__(self, tools: Iterable[str]) -> None:
        """Start at nothing.

        Args:
            tools: names that the release declares; any other counts as `UNKNOWN_TOOL`.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self._tools = frozenset(tools)
        self._metrics = {metric: _make(metric, self._registry) for metric in SERVER_METRICS}
        self._children: dict[tuple[Any, ...], Any] = {}
        self._under_way = _UnderWay(self._of(metrics.UNDER_WAY))
        self._steps = {step: self._of(metrics.STEP_SECONDS, step) for step in STEPS}

    def step(self, name: str) -> AbstractContextManager[object]:
        """Time the block as one of `STEPS`."""
        return _Timed(self._steps[name])

    def under_way(self) -> AbstractContextManager[object]:
        """A call is under way while the block runs."""
        return self._under_way

    def ended(self, tool: str, surface: str, outcome: str, seconds: float) -> None:
        """An allowed call ended."""
        tool = self._tool(tool)
        self._of(metrics.CALLS, tool, _known("surface", surface), _known("outcome", outcome)).inc()
        self._of(metrics.CALL_SECONDS, tool).observe(seconds)

    def refused(self, code: str, reason: str) -> None:
        """A request was refused."""
        self._of(metrics.REFUSALS, _known("code", code), _known("reason", reason)).inc()

    def call_refused(self, tool: str, surface: str) -> None:
        """A call of a tool was refused; `tool` may be anything."""
        self._of(metrics.REFUSED_CALLS, self._tool(tool), _known("surface", surface)).inc()

    def delivered(self, result: str, records: int = 0) -> None:
        """A delivery to the hub ended as one of `DELIVERIES`."""
        self._of(metrics.DELIVERY, result).inc()
        self._of(metrics.DELIVERED).inc(records)

    def watch(self, metric: Metric, value: Callable[[], float]) -> None:
        """Let a gauge show what `value` says whenever the page is asked for."""
        self._of(metric).set_function(value)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _tool(self, name: str) -> str:
        return name if name in self._tools else UNKNOWN_TOOL

    def _of(self, metric: Metric, *labels: str) -> Any:
        key = (metric.name, *labels)
        child = self._children.get(key)
        if child is None:
            whole = self._metrics[metric]
            child = self._children[key] = whole.labels(*labels) if labels else whole
        return child


def _known(label: str, value: str) -> str:
    return value if value in LABELS[label] else OTHER


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class _Timed:
    """One run of a step."""

    __slots__ = ("_began", "_histogram")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._histogram.observe(time.perf_counter() - self._began)


class _UnderWay:
    """Calls that are under way; one for all of them."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def __enter__(self) -> None:
        self._gauge.inc()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gauge.dec()
