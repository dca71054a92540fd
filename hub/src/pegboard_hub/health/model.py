"""What is kept of servers' health: its tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from pegboard_hub.registry.tables import SERVER_LENGTH
from pegboard_hub.storage.metadata import metadata

WHY_LENGTH = 200
"""Characters of a reason; the prober's own words, which are shorter."""

health = Table(
    "health",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("state", String(8), nullable=False, comment="live, down, flapping or unknown"),
    Column("since_ms", BigInteger, nullable=False),
    Column("why", Text, nullable=False, comment="empty while it is live"),
    Column("checked_at_ms", BigInteger, nullable=False, comment="written once a minute: it may be so much later"),
)

health_history = Table(
    "health_history",
    metadata,
    Column("server", String(SERVER_LENGTH), primary_key=True),
    Column("at_ms", BigInteger, primary_key=True),
    Column("state", String(8), nullable=False, comment="what it became"),
    Column("why", Text, nullable=False),
    Index(None, "at_ms"),
)

probers = Table(
    "probers",
    metadata,
    Column("name", String(32), primary_key=True, comment="the instance whose prober it is"),
    Column("heard_at_ms", BigInteger, nullable=False, comment="when it last reported"),
    Column("changes", BigInteger, nullable=False, comment="counts up when the table health changed"),
)
