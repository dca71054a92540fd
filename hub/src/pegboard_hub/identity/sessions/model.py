"""Sessions: one is what a person has in one browser. Everything that they connect from there ends with it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table, Text

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.storage.metadata import metadata

SUB_LENGTH = 255
"""Characters of a person's id: as many as OpenID Connect Core 1.0 §2 allows a `sub`."""

LOGIN_LENGTH = 255

sessions = Table(
    "sessions",
    metadata,
    Column("sid", String(32), primary_key=True),
    Column("secret_digest", String(64), nullable=False, comment="SHA-256 of the cookie's value"),
    Column("sub", String(SUB_LENGTH), nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("groups", JSON, nullable=False),
    Column("login", String(LOGIN_LENGTH), nullable=False, comment="issuer of the login that it is from"),
    Column("subject", String(SUB_LENGTH), nullable=False, comment="the person's id at the login"),
    Column("login_session", String(SUB_LENGTH), nullable=False, comment="the login's own id of the sign-in"),
    Column("renewal", Text, nullable=False, comment="what renews the facts, sealed"),
    Column("device", String(200), nullable=False, comment="browser and system, as it named itself"),
    Column("opened_at_ms", BigInteger, nullable=False),
    Column("authenticated_at_ms", BigInteger, nullable=False, comment="when the person last proved who they are"),
    Column("facts_at_ms", BigInteger, nullable=False, comment="when the login last told name and groups"),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("ended_why", String(32)),
    Index("ix_sessions_secret_digest", "secret_digest", unique=True),
    Index("ix_sessions_sub", "sub"),
    Index("ix_sessions_subject", "subject"),
    Index("ix_sessions_login_session", "login_session"),
    Index("ix_sessions_expires_at_ms", "expires_at_ms"),
)


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in of one person in one browser. Times are milliseconds since the epoch."""

    sid: str
    facts: PersonFacts
    subject: str
    login_session: str
    renewal: str
    device: str
    opened_at_ms: int
    authenticated_at_ms: int
    facts_at_ms: int
    seen_at_ms: int
    expires_at_ms: int
    ended_at_ms: int | None = None
    ended_why: str | None = None

    def live(self, now_ms: int) -> bool:
        """Whether it has neither ended nor expired."""
        return self.ended_at_ms is None and now_ms < self.expires_at_ms
