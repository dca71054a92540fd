"""Prometheus' text format: reading pages that may be hostile, and writing one that no page can break.

What is read is held to a table: names, label names, label values and bounds that are not in it are left out, and each
series counts once. What is written is made of those, so nothing of a page's own text survives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import Metric as Family

from pegboard.core.metrics import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MOST_LINES = 20_000
"""Lines that are read of an untrusted page."""

_LINE = re.compile(r"(?P<name>[a-z0-9_]{1,128})(?:\{(?P<labels>[^{}]{0,1024})\})? (?P<value>[0-9.eE+-]{1,64})")
_LABEL = re.compile(r'(?P<name>[a-z_]{1,64})="(?P<value>[^"\\]{0,256})"(?:,|$)')


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of a metric.

    Attributes:
        name: the metric's, or with the suffix of a part of it.
    """

    metric: Metric
    labels: Mapping[str, str]
    value: float
    name: str = ""

    @property
    def series(self) -> tuple[object, ...]:
        """What tells it from every other figure."""
        return (self.name or self.metric.name, *sorted(self.labels.items()))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page as it says itself."""

    name: str
    labels: Mapping[str, str]
    value: float


def lines(page: str, most: int | None = None) -> Iterator[Line | None]:
    """The lines of a page with figures, at most the first `most`; None for each that cannot be read."""
    for text in page.split("\n", most or -1)[:most]:
        if text and not text.startswith("#"):
            yield _line(text)


def _line(text: str) -> Line | None:
    found = _LINE.fullmatch(text) if text.isascii() else None
    if found is None:
        return None
    labels, end = dict[str, str](), 0
    inside = found["labels"] or ""
    for label in _LABEL.finditer(inside):
        if label.start() != end or label["name"] in labels:
            return None
        labels[label["name"]] = label["value"]
        end = label.end()
    if end != len(inside):
        return None
    try:
        value = float(found["value"])
    except ValueError:
        return None
    return Line(found["name"], labels, value) if math.isfinite(value) and value >= 0 else None


def read(
    page: str, table: Iterable[Metric], allowed: Mapping[str, Collection[str]], added: Mapping[str, str]
) -> tuple[list[Sample], int]:
    """The figures of an untrusted page that are of `table`, and how many lines were left out.

    Args:
        page: what was sent.
        table: the metrics it may have.
        allowed: the values that each label may have; a label that is not among the keys may have none.
        added: labels that are put on every figure, for example whose page it is.
    """
    by_name = {name: metric for metric in table for name in metric.samples}
    found: dict[tuple[object, ...], Sample] = {}
    dropped = 0
    for line in lines(page, MOST_LINES):
        sample = _sample(line, by_name, allowed, added) if line else None
        if sample is None or sample.series in found:
            dropped += 1
        else:
            found[sample.series] = sample
    return list(found.values()), dropped


def _sample(
    line: Line, by_name: Mapping[str, Metric], allowed: Mapping[str, Collection[str]], added: Mapping[str, str]
) -> Sample | None:
    metric = by_name.get(line.name)
    if metric is None:
        return None
    labels = dict(line.labels)
    bound = labels.pop("le", None)
    if tuple(sorted(labels)) != tuple(sorted(metric.labels)) or (bound is not None) != line.name.endswith("_bucket"):
        return None
    if any(value not in allowed.get(name, ()) for name, value in labels.items()):
        return None
    if bound is not None:
        number = math.inf if bound == "+Inf" else _number(bound)
        if number not in (*metric.buckets, math.inf):
            return None
        labels["le"] = bound_text(number)
    return Sample(metric, {**added, **labels}, line.value, line.name)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def bound_text(bound: float) -> str:
    """A bucket's bound as a label's value, in one spelling."""
    return "+Inf" if math.isinf(bound) else repr(float(bound))


def write(samples: Iterable[Sample]) -> bytes:
    """A page of all figures, each metric once with its help and kind. Escaping is the library's."""
    families: dict[str, Family] = {}
    for sample in samples:
        metric = sample.metric
        family = families.get(metric.name)
        if family is None:
            family = families[metric.name] = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
        family.add_sample(sample.name or metric.name, dict(sample.labels), sample.value)
    page: Any = _Page(families.values())
    return generate_latest(page)


class _Page:
    """Families in the form in which the library takes a registry."""

    def __init__(self, families: Collection[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """The families, as they are."""
        return self._families


def together(pages: Mapping[str, str]) -> str:
    """Our own pages of several hubs as one, each figure with its hub's name in the label `hub`.

    A metric's figures stand together below its one description, as the format wants it.
    """
    heads: dict[str, list[str]] = {}
    figures: dict[str, list[str]] = {}
    for hub, page in pages.items():
        metric = ""
        for line in page.splitlines():
            if line.startswith("# "):
                metric = line.split(" ", 3)[2]
                if line not in (known := heads.setdefault(metric, [])):
                    known.append(line)
            elif line:
                name, labelled, rest = line.partition("{")
                if not labelled:
                    name, _, rest = line.partition(" ")
                    rest = f"}} {rest}"
                comma = "," if rest[0] != "}" else ""
                figures.setdefault(metric, []).append(f'{name}{{hub="{hub}"{comma}{rest}')
    return "".join(f"{line}\n" for metric, head in heads.items() for line in (*head, *figures.get(metric, ())))
