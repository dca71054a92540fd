"""Connections, authorization codes, refresh tokens, device codes, and what was revoked before its time.

Of every secret only the SHA-256 is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, PrimaryKeyConstraint, String, Table, Text

from pegboard_hub.identity.clients.model import CLIENT_ID_LENGTH
from pegboard_hub.identity.sessions.model import SUB_LENGTH
from pegboard_hub.storage.metadata import metadata

ADDRESS_LENGTH = 64
PROGRAM_LENGTH = 200

connections = Table(
    "connections",
    metadata,
    Column("connection", String(32), primary_key=True),
    Column("sid", ForeignKey("sessions.sid"), nullable=False),
    Column("sub", String(SUB_LENGTH), nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("resource", Text, nullable=False, comment="the one it is for; empty: any, of Pegboard's own command"),
    Column("scope", Text, nullable=False),
    Column("opened_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("ended_why", String(32)),
    Column("family_digest", String(64), comment="of what its refresh tokens begin with; null before the first"),
    Index("ix_connections_family_digest", "family_digest", unique=True),
    Index("ix_connections_sid", "sid"),
    Index("ix_connections_sub", "sub"),
    Index("ix_connections_client_id", "client_id"),
)

authorization_codes = Table(
    "authorization_codes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("connection", ForeignKey("connections.connection"), nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("redirect_uri_given", Boolean, nullable=False, comment="whether the request named it"),
    Column("code_challenge", String(128), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("used_at_ms", BigInteger),
    Index("ix_authorization_codes_connection", "connection"),
    Index("ix_authorization_codes_expires_at_ms", "expires_at_ms"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("connection", ForeignKey("connections.connection"), nullable=False),
    Column("jti", String(32), nullable=False, comment="of the access token that was issued with it"),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("used_at_ms", BigInteger, comment="when it was exchanged for the next"),
    Index("ix_refresh_tokens_connection", "connection"),
    Index("ix_refresh_tokens_jti", "jti"),
    Index("ix_refresh_tokens_expires_at_ms", "expires_at_ms"),
    Index("ix_refresh_tokens_used_at_ms", "used_at_ms"),
)

device_codes = Table(
    "device_codes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_code", String(16), nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("resource", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("asked_from", String(ADDRESS_LENGTH), nullable=False, comment="the address that asked; empty: not known"),
    Column("asked_by", String(PROGRAM_LENGTH), nullable=False, comment="the program that asked, as it named itself"),
    Column("asked_at_ms", BigInteger, nullable=False),
    Column("connection", String(32), comment="once a person has said yes"),
    Column("denied_at_ms", BigInteger),
    Column("used_at_ms", BigInteger, comment="when it was exchanged for tokens"),
    Column("polled_at_ms", BigInteger),
    Column("interval_s", BigInteger, nullable=False, comment="how long to wait between polls"),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index("ix_device_codes_user_code", "user_code", unique=True),
    Index("ix_device_codes_expires_at_ms", "expires_at_ms"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("kind", String(8), nullable=False, comment="session, token or client"),
    Column("value", String(CLIENT_ID_LENGTH), nullable=False, comment="the claim's value: sid, jti or client_id"),
    Column("until_ms", BigInteger, nullable=False, comment="when the last token with it has expired anyway"),
    PrimaryKeyConstraint("kind", "value"),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """A client that acts for a person at one resource. Times are milliseconds since the epoch."""

    connection: str
    sid: str
    sub: str
    client_id: str
    resource: str
    scope: str
    opened_at_ms: int
    seen_at_ms: int
    ended_at_ms: int | None = None
    ended_why: str | None = None
    family_digest: str | None = None
