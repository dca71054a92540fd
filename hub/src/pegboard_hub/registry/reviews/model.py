"""Reviews and their comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.tables import ACTOR_LENGTH
from pegboard_hub.storage.metadata import metadata


class Kind(StrEnum):
    """What a review looks at a server for."""

    SECURITY = "security"
    PRIVACY = "privacy"
    GENAI = "genai"


TITLES = {Kind.SECURITY: "Security", Kind.PRIVACY: "Legal and privacy", Kind.GENAI: "GenAI"}
"""What pages call the kinds of reviews."""


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


class Difference(NamedTuple):
    """Something that a review looks at, and that is not as it was.

    Attributes:
        what: in words, for example `tool get_revenue_metrics` or `requested groups`.
        before: what it was; None where it was not there.
        after: what it is; None where it is there no more.
    """

    what: str
    before: Any
    after: Any


class Subject(NamedTuple):
    """Exactly what a review looks at. What was decided on one does not count for another.

    Attributes:
        release: digest; empty where there is no code yet.
        requested: the access that is asked for.
    """

    release: str
    requested: Access


def subject_of(server: RegisteredServer) -> Subject:
    """What would be reviewed of a server now: the release that waits, or else the one that is deployed."""
    release = server.waiting or server.release
    return Subject(release.digest if release else "", in_order(server.requested))


def in_order(access: Access) -> Access:
    """An access with its values sorted and each once, so that two of them can be compared."""
    return Access(*(tuple(sorted(set(values))) for values in access))


class Kept(NamedTuple):
    """What a reviewer has put down for later: no decision yet, and nobody's to rely on.

    Attributes:
        access: what they would approve.
        conditions: under which.
        why: in their words.
    """

    access: Access
    conditions: str
    why: str


@dataclass(frozen=True, slots=True)
class Review:
    """One review. Times are milliseconds since the epoch.

    Attributes:
        changes: what differs from what was last approved; an author's words are in it.
        decided_by: a person, or the grants file; None while nobody has decided.
        checklist: each item that was looked at, with whether it holds.
        granted: the access that was approved; None unless it was.
        kept: what was put down for later; None where nothing was, or it is decided.
        version: counts up with each change of it.
    """

    id: str
    server: str
    kind: Kind
    state: State
    subject: Subject
    changes: tuple[Difference, ...]
    opened_at_ms: int
    opened_by: str
    opened_why: str
    decided_at_ms: int | None
    decided_by: str | None
    outcome_why: str
    checklist: Mapping[str, bool]
    granted: Access | None
    conditions: str
    version: int
    kept: Kept | None = None

    @property
    def since_ms(self) -> int:
        """Since when it stands as it does: when it was decided, or else opened."""
        return self.opened_at_ms if self.decided_at_ms is None else self.decided_at_ms

    @property
    def open(self) -> bool:
        """Whether it waits for somebody to decide."""
        return self.state is State.OPEN


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody said of a review."""

    at_ms: int
    author: str
    text: str
