"""What is kept of messages until they were delivered, and for a while afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from pegboard_hub.storage.metadata import metadata

notifications = Table(
    "notifications",
    metadata,
    Column("id", String(40), primary_key=True, comment="the same at every attempt: receivers know repeats by it"),
    Column("destination", String(32), nullable=False, comment="as the notification file calls it"),
    Column("event", String(16), nullable=False, comment="requested, expiring, decided or unknown"),
    Column("body", Text, nullable=False, comment="as it is sent; no arguments, and nothing that opens anything"),
    Column("at_ms", BigInteger, nullable=False, comment="when it happened"),
    Column("state", String(12), nullable=False, comment="waiting, delivered or given_up"),
    Column(
        "next_at_ms", BigInteger, nullable=False, comment="of one that waits: when it is tried; else when it ended"
    ),
    Column("attempts", Integer, nullable=False),
    Column("trouble", String(200), nullable=False, comment="why the last attempt failed; no word of the receiver's"),
    Index("ix_notifications_state_destination_next", "state", "destination", "next_at_ms"),
)

State = Literal["waiting", "delivered", "given_up"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one destination. Times are milliseconds since the epoch."""

    id: str
    destination: str
    event: str
    body: str
    at_ms: int
    attempts: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """How one destination stands.

    Attributes:
        waiting: messages that are not delivered yet.
        oldest_ms: when the oldest of them happened; None where none waits.
        attempts: most that one of them has had.
        trouble: why the last attempt at the one that was tried most failed.
        given_up: messages of the last days that were never delivered.
    """

    destination: str
    waiting: int = 0
    oldest_ms: int | None = None
    attempts: int = 0
    trouble: str = ""
    given_up: int = 0
