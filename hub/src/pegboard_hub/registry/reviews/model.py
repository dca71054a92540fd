"""Reviews and their comments."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from pegboard_hub.registry.model import ACTOR_LENGTH
from pegboard_hub.storage.metadata import metadata


class Kind(StrEnum):
    """What a review looks at a server for."""

    SECURITY = "security"
    PRIVACY = "privacy"
    GENAI = "genai"


class State(StrEnum):
    """How a review stands. `SUPERSEDED`: what it looked at is no longer asked for."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


reviews = Table(
    "reviews",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("server", ForeignKey("servers.name"), nullable=False),
    Column("kind", String(12), nullable=False, comment="one of Kind"),
    Column("state", String(12), nullable=False, comment="one of State"),
    Column("release", String(64), nullable=False, comment="digest that is looked at; empty: none yet"),
    Column("requested", JSON, nullable=False, comment="the access that is looked at"),
    Column("changes", JSON, nullable=False, comment="what differs from what was last approved"),
    Column("opened_at_ms", BigInteger, nullable=False),
    Column("opened_by", String(ACTOR_LENGTH), nullable=False),
    Column("opened_why", Text, nullable=False),
    Column("decided_at_ms", BigInteger),
    Column("decided_by", String(ACTOR_LENGTH)),
    Column("outcome_why", Text, nullable=False, server_default=""),
    Column("checklist", JSON, nullable=False, server_default="{}", comment="item to whether it holds"),
    Column("granted", JSON(none_as_null=True), comment="the access that was approved"),
    Column("conditions", Text, nullable=False, server_default=""),
    Column("version", Integer, nullable=False, server_default="1"),
    Index("ix_reviews_server_opened_at_ms", "server", "opened_at_ms"),
    Index("ix_reviews_state_opened_at_ms", "state", "opened_at_ms"),
)

review_comments = Table(
    "review_comments",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("review", ForeignKey("reviews.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("author", String(ACTOR_LENGTH), nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_review_comments_review_id", "review", "id"),
)
