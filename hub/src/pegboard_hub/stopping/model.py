"""What is kept of stops: who ordered which, and the history of them.

Of a server and a tool the registry's table `stops` says whether they are stopped; here stands who ordered it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from pegboard.core.stops import StopKind
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.tables import ACTOR_LENGTH
from pegboard_hub.storage.metadata import metadata

NAME_LENGTH = 2048
"""Characters of a name; a SPIFFE ID is the longest."""

stop_orders = Table(
    "stop_orders",
    metadata,
    Column("kind", String(8), primary_key=True, comment="one of core.stops.STOP_KINDS"),
    Column("name", String(NAME_LENGTH), primary_key=True),
    Column("why", Text, nullable=False, comment="shown to callers"),
    Column("actor", String(ACTOR_LENGTH), nullable=False, comment="who"),
    Column("actor_kind", String(8), nullable=False, comment="person, operator, file or system"),
    Column("role", String(8), nullable=False, comment="operator or owner: an owner does not end an operator's"),
    Column("at_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, comment="when it ends by itself; null: when somebody resumes it"),
)

stop_history = Table(
    "stop_history",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("action", String(8), nullable=False, comment="stop or resume"),
    Column("why", Text, nullable=False),
    Column("actor", String(ACTOR_LENGTH), nullable=False),
    Column("actor_kind", String(8), nullable=False),
    Column("until_ms", BigInteger),
    Index("ix_stop_history_actor_seq", "actor", "seq"),
)
"""Append-only: the database itself refuses to change or remove a row."""

Role = Literal["operator", "owner"]


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop that is in force. Times are milliseconds since the epoch.

    Attributes:
        kind: of what is stopped.
        name: of it: a surface, a person's id, a client's software, a SPIFFE ID, `namespace/server` or
            `namespace/server/tool`.
        why: what callers are told.
        by: who ordered it.
        role: as what; what the grants file stops is an operator's.
        at_ms: since when; None where nobody knows.
        until_ms: when it ends by itself; None: when somebody resumes it.
    """

    kind: StopKind
    name: str
    why: str
    by: Actor
    role: Role
    at_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history."""

    seq: int
    at_ms: int
    kind: StopKind
    name: str
    action: Literal["stop", "resume"]
    why: str
    by: Actor
    until_ms: int | None
