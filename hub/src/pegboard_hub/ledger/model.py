"""What the ledger keeps: its tables, and one call as people read it.

Rows are only ever added. A call that was allowed is a row in `calls` and, once it ended, one in `outcomes`; a refusal
is a row in `calls`. Refusals of nobody in particular are counts: nobody is named on an unverified claim.
Minutes saved are not kept here: the registry's pinned tools say them, so that no server can claim any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from pegboard.core.record import CODE_LENGTH, ID_LENGTH
from pegboard_hub.registry.model import SERVER_LENGTH
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
    Index(None, "at_ms"),
    Index(None, "sub", "at_ms"),
    Index(None, "server", "at_ms"),
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


@dataclass(frozen=True, slots=True)
class Call:
    """One call, or one refusal, as the ledger tells it. Times are milliseconds.

    Attributes:
        status: ok, tool_error, crashed, cancelled, input_required; denied; running; unknown, when no outcome came.
        reason: of a refusal, in the word the caller was told.
        detail: of a refusal, what only the server's owners may know; empty for other readers.
        minutes_saved: as the release that ran declares them for this tool; 0 unless the call ended well.
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
    decision: Literal["allowed", "denied"]
    layer: Literal["edge", "server"]
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
