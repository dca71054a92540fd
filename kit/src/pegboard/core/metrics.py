"""The metrics a server exports: one table that server, supervisor and documentation share.

A server counts by this table; the supervisor takes from a server only what stands in it, with the label values named
here, and adds the label `server` itself. Labels name no person, and every label has a bounded set of values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pegboard.core.access import RULES
from pegboard.core.names import SURFACES
from pegboard.core.token import REASONS as TOKEN_REASONS

Kind = Literal["counter", "gauge", "histogram"]

OTHER = "other"
"""Label value for whatever is not in a label's set."""

UNKNOWN_TOOL = "(unknown)"
"""Label value for a tool that the release does not declare; no tool can have that name (`names.TOOL_PATTERN`)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of a table of metrics.

    Attributes:
        name: as Prometheus knows it; ends in the unit, and in `_total` where it counts.
        labels: their names.
        help: what it counts or shows, in one sentence.
        unit: of a value.
        buckets: upper bounds of a histogram, in `unit`.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    unit: str
    buckets: tuple[float, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of its samples in the text format."""
        suffixes = ("_bucket", "_sum", "_count") if self.kind == "histogram" else ("",)
        return tuple(self.name + suffix for suffix in suffixes)


CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
STEP_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0)

OUTCOMES = ("ok", "tool_error", "crashed", "cancelled", "input_required")
"""How a call can end; the statuses of `core.record.Outcome`."""

STEPS = ("admit", "agree", "authorize", "approve", "intent", "outcome")
"""The platform's own steps of a call; what the tool itself takes is the rest of the call. `approve` is measured of
tools alone that may need an approval, with the time for which the hub waits for people."""

APPROVAL_CODES = (
    "approval_claimed",
    "approval_expired",
    "approval_impossible",
    "approval_pending",
    "approval_rejected",
    "approval_withdrawn",
    "approvals_unavailable",
    "caller_gone",
    "confirmation_refused",
)
"""Codes, and reasons, of calls that wait for a person or were not let through by one (`call/telling.py`)."""

CODES = (
    "access_denied",
    "ambiguous_request",
    *APPROVAL_CODES,
    "call_not_permitted",
    "foreign_origin",
    "identity_mismatch",
    "insufficient_scope",
    "request_too_large",
    "rule_denied",
    "stopped",
    "tool_blocked",
    "tool_unavailable",
    "unauthenticated",
    "unavailable",
    OTHER,
)
"""Codes of a server's refusals."""

REASONS = tuple(
    dict.fromkeys(
        (
            *TOKEN_REASONS,
            *(rule.refused for rule in RULES),
            *APPROVAL_CODES,
            "bundle_unusable",
            "duplicate_keys",
            "foreign_origin",
            "header_mismatch",
            "identity_mismatch",
            "ledger_unavailable",
            "not_one_message",
            "not_unicode",
            "policy_denied",
            "request_too_large",
            "stops_unknown",
            "tool_blocked",
            "tool_stopped",
            "tool_unavailable",
            OTHER,
        )
    )
)
"""Reasons of a server's refusals."""

DELIVERIES = ("taken", "refused", "failed")
"""How one delivery to the hub went: it took the records, answered something else, or did not answer."""

LABELS: Mapping[str, Collection[str]] = {
    "outcome": OUTCOMES,
    "surface": (*SURFACES, OTHER),
    "step": STEPS,
    "code": CODES,
    "reason": REASONS,
    "result": DELIVERIES,
}
"""Every value of each label but `tool`, whose values are the names of the release's tools and `UNKNOWN_TOOL`."""

CALLS = Metric(
    "pegboard_server_calls_total",
    "counter",
    ("tool", "surface", "outcome"),
    "Calls that were allowed and have ended, by how.",
    "calls",
)
REFUSALS = Metric(
    "pegboard_server_refusals_total",
    "counter",
    ("code", "reason"),
    "Requests and calls that the server refused.",
    "refusals",
)
REFUSED_CALLS = Metric(
    "pegboard_server_refused_calls_total",
    "counter",
    ("tool", "surface"),
    "Calls of a tool that were refused; `(unknown)` is every name that the release does not declare.",
    "calls",
)
CALL_SECONDS = Metric(
    "pegboard_server_call_seconds",
    "histogram",
    ("tool",),
    "From the intent on disk to the end of the tool, of allowed calls.",
    "seconds",
    CALL_BUCKETS,
)
STEP_SECONDS = Metric(
    "pegboard_server_step_seconds",
    "histogram",
    ("step",),
    "What each step of the platform takes of a request.",
    "seconds",
    STEP_BUCKETS,
)
UNDER_WAY = Metric("pegboard_server_calls_under_way", "gauge", (), "Calls whose tool is running now.", "calls")
SESSIONS = Metric(
    "pegboard_server_sessions_open", "gauge", (), "Sessions of the older protocol that are open.", "sessions"
)
SPOOL_BYTES = Metric(
    "pegboard_server_spool_bytes",
    "gauge",
    (),
    "Records on disk that the hub does not have yet.",
    "bytes",
)
DELIVERED = Metric(
    "pegboard_server_records_delivered_total", "counter", (), "Records that the hub has acknowledged.", "records"
)
DELIVERY = Metric(
    "pegboard_server_deliveries_total", "counter", ("result",), "Attempts to bring records to the hub.", "attempts"
)
BUNDLE_VERSION = Metric(
    "pegboard_server_bundle_version", "gauge", (), "Version of the bundle in use; 0 before the first.", "version"
)
BUNDLE_ISSUED = Metric(
    "pegboard_server_bundle_issued_timestamp_seconds",
    "gauge",
    (),
    "When the bundle in use was signed; 0 before the first.",
    "seconds since 1970",
)
BUNDLE_MAX_AGE = Metric(
    "pegboard_server_bundle_max_age_seconds",
    "gauge",
    (),
    "The age from which on the bundle in use lets nothing through; 0 before the first.",
    "seconds",
)

SERVER_METRICS = (
    CALLS,
    REFUSALS,
    REFUSED_CALLS,
    CALL_SECONDS,
    STEP_SECONDS,
    UNDER_WAY,
    SESSIONS,
    SPOOL_BYTES,
    DELIVERED,
    DELIVERY,
    BUNDLE_VERSION,
    BUNDLE_ISSUED,
    BUNDLE_MAX_AGE,
)
"""Everything a server exports."""
