"""What the ledger keeps: its tables, and one call as people read it.

Records are only ever added. A call that was allowed is a row in `calls` and, once it ended, one in `outcomes`; a
refusal is a row in `calls`. Refusals of nobody in particular are counts: nobody is named on an unverified claim.
What a call saves is no server's word: the registry's pinned tools say it.

The tables `usage_*` are derived: counted from the rows above in the transaction that adds them, so that no page scans
the ledger. `pegboard ledger verify` counts again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from pegboard.core.record import CODE_LENGTH, ID_LENGTH, TOKEN_ID_LENGTH
from pegboard_hub.registry.tables import SERVER_LENGTH
from pegboard_hub.storage.metadata import metadata

Kind = Literal["intent", "denial", "edge"]
"""Where a row of `calls` comes from: a server's intent, a server's refusal, a refusal in the edge's access log."""

calls = Table(
    "calls",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("id", String(ID_LENGTH), primary_key=True, comment="the call's id; of an edge refusal its request id"),
    Column("at_ms", BigInteger, nullable=False),
    Column("release", Text, nullable=False),
    Column("sub", Text, nullable=False),
    Column("sub_type", String(8), nullable=False),
    Column("surface", Text, nullable=False),
    Column("channel", Text),
    Column("client_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("method", Text, nullable=False, comment="the MCP method, of an edge refusal"),
    Column("code", String(CODE_LENGTH), nullable=False, comment="of a refusal, as the caller was told"),
    Column("reason", Text, nullable=False, comment="of a refusal, in one word"),
    Column("detail", Text, nullable=False, comment="of a refusal, for the owner alone"),
    Column("policy", Text, nullable=False),
    Column("policy_version", Text, nullable=False),
    Column("arguments_digest", Text, nullable=False),
    Column("arguments_bytes", BigInteger, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column(
        "status",
        String(16),
        nullable=False,
        server_default="",
        comment="of an allowed call, its outcome's, kept here to be searched by; empty while there is none",
    ),
    Column("steps_ms", JSON, comment="of a refusal, how long each step took; null where nobody said"),
    Column("received_at_ms", BigInteger, comment="when the hub took it in; null for rows from before it was noted"),
    Column("act", Text, comment="the registered surface that acted for the person; null: none did"),
    Column(
        "token_id",
        String(TOKEN_ID_LENGTH),
        nullable=False,
        server_default="",
        comment="id (jti) of the token it came with; empty: nobody said",
    ),
    Column(
        "approval",
        JSON(none_as_null=True),
        comment="ids of the approval requests that were claimed for it, or that it waits for; null: none",
    ),
    Index(None, "at_ms"),
    Index(None, "sub", "at_ms"),
    Index(None, "server", "at_ms"),
    Index(None, "status", "at_ms"),
    Index(None, "tool", "at_ms"),
    Index(None, "code", "at_ms"),
    Index(None, "id"),
    Index(None, "request_id"),
    Index(None, "trace_id"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error_type", Text, nullable=False),
    Column("result_digest", Text, nullable=False),
    Column("result_bytes", BigInteger, nullable=False),
    Column("duration_ms", Float, nullable=False),
    Column("steps_ms", JSON, nullable=False),
    Column("received_at_ms", BigInteger, comment="when the hub took it in; null for rows from before it was noted"),
)

refusal_counts = Table(
    "refusal_counts",
    metadata,
    Column("layer", String(8), primary_key=True),
    Column("server", String(SERVER_LENGTH), primary_key=True, comment="empty: no registered server"),
    Column("code", String(CODE_LENGTH), primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True, comment="the hour's beginning"),
    Column("count", Integer, nullable=False),
)

counted = Table(
    "counted",
    metadata,
    Column("layer", String(8), primary_key=True),
    Column("server", String(SERVER_LENGTH), primary_key=True, comment="who delivered it; empty for the edge"),
    Column("id", String(ID_LENGTH), primary_key=True),
    Column("seen_at_ms", BigInteger, nullable=False, index=True),
)
"""Refusals already in `refusal_counts`, for as long as they might be delivered again."""

rejected_records = Table(
    "rejected_records",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the record as JSON"),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
    Column("text", Text, nullable=False, comment="the record as JSON, its beginning if it is long"),
)
"""Delivered records that could not be read: the newest of each server, for whoever looks into it."""


DAY_MS = 86_400_000

ALL = "*"
"""In place of a server: all of them together. No server can be called this (`core.names.NAME_PATTERN`)."""

BEGUN = "begun"
DENIED = "denied"
REFUSED_AT_EDGE = "edge"
"""What is counted beside the statuses of outcomes: every allowed call, refusals by servers, refusals by the edge."""

usage_days = Table(
    "usage_days",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True, comment="empty: no registered server"),
    Column("day_ms", BigInteger, primary_key=True, comment="beginning of the UTC day in which the call began"),
    Column("tool", Text, primary_key=True, comment="empty: none that the release declares"),
    Column("status", String(16), primary_key=True, comment="begun, an outcome's status, denied, or edge"),
    Column("calls", BigInteger, nullable=False),
    Column("saved_ms", BigInteger, nullable=False, comment="milliseconds of people's work, as owners declare"),
)

usage_totals = Table(
    "usage_totals",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True, comment="* for all of them together"),
    Column("status", String(16), primary_key=True, comment="as in usage_days"),
    Column("calls", BigInteger, nullable=False),
    Column("callers", BigInteger, nullable=False, comment="different ones; of calls that ended well alone"),
    Column("saved_ms", BigInteger, nullable=False),
)

usage_callers = Table(
    "usage_callers",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True, comment="* for all of them together"),
    Column("sub_type", String(8), primary_key=True),
    Column("sub", Text, primary_key=True),
)
"""Who has had a call that ended well: by it the different callers are counted, which no sum of days could."""

unpriced = Table(
    "unpriced",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("release", Text, primary_key=True),
)
"""Releases that delivered before the registry knew them. Their server is counted again once it does."""

MOST_MINUTES = 7 * 24 * 60
"""What one call can save at most, whatever its owner declares: a week."""


def saved_ms(minutes: float) -> int:
    """What one call saves, in milliseconds: whole ones, so that sums do not depend on their order."""
    return int(min(minutes, MOST_MINUTES) * 60_000 + 0.5)


Decision = Literal["allowed", "denied"]
CallLayer = Literal["edge", "server"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, or one refusal, as the ledger tells it. Times are milliseconds.

    Attributes:
        act: the registered surface that acted for the person; None where none did.
        status: ok, tool_error, crashed, cancelled, input_required; denied; running; unknown, when no outcome came.
        reason: of a refusal, in the word the caller was told.
        detail: of a refusal, what only the server's owners may know; empty for other readers.
        minutes_saved: as the release that ran declares them for this tool; 0 unless the call ended well.
        approval: ids of the requests that were claimed for it, or that it waits for.
    """

    id: str
    at_ms: int
    server: str
    release: str
    tool: str
    sub: str
    surface: str
    channel: str | None
    client_id: str
    act: str | None
    decision: Decision
    layer: CallLayer
    code: str
    reason: str
    detail: str
    policy: str
    policy_version: str
    status: str
    duration_ms: float | None
    minutes_saved: float
    request_id: str
    trace_id: str
    approval: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """One call from its decision to its place in the ledger. Times are milliseconds since the epoch.

    Attributes:
        call: the call itself.
        method: the MCP method; empty where it was a tool's call.
        steps_ms: how long each step took, in the order they were taken; empty where nobody said.
        ended_at_ms: when the outcome was written; None while there is none.
        received_at_ms: when the hub took in the intent, or the refusal.
        outcome_received_at_ms: when the hub took in the outcome.
        unfinished: why there is no outcome, in words; empty where there is one, or none is to come.
    """

    call: Call
    sub_type: str
    method: str
    protocol: str
    arguments_digest: str
    arguments_bytes: int
    error_type: str
    result_digest: str
    result_bytes: int | None
    steps_ms: Mapping[str, float]
    ended_at_ms: int | None
    received_at_ms: int | None
    outcome_received_at_ms: int | None
    unfinished: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What was done with a server, or with all of them. Only calls that ended well count."""

    calls: int = 0
    callers: int = 0
    minutes_saved: float = 0

    @property
    def hours_saved(self) -> float:
        """Hours saved, as declared by the owners."""
        return self.minutes_saved / 60
