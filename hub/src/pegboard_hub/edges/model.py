"""What is kept of joined edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from pegboard.core.bundle import edge_consumer
from pegboard_hub.common.joining import EdgeWord
from pegboard_hub.registry.tables import ACTOR_LENGTH
from pegboard_hub.storage.metadata import metadata

edges = Table(
    "edges",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", String(32), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True, comment="SHA-256 of its credential, in hex"),
    Column("spiffe_id", String(2048), comment="of an edge on another machine: whom the gate lets in"),
    Column("added_at_ms", BigInteger, nullable=False),
    Column("added_by", String(ACTOR_LENGTH), nullable=False),
    Column("removed_at_ms", BigInteger, comment="null while it is one of the edges"),
    Column("removed_by", String(ACTOR_LENGTH)),
    Column("removed_why", Text),
    Column("heard_at_ms", BigInteger, comment="when it was last heard of; null: never"),
    Column("word", Text, comment="what it last said of itself, as JSON (common.joining.EdgeWord)"),
)
"""A row for each time that an edge was added. None is ever removed: that is its history."""

Standing = Literal["live", "unready", "awaited", "away", "never", "removed"]
"""`live`: heard of lately, and its Envoy takes calls; `unready`: heard of, and it takes none; `awaited`: this hub has
just started, and it has not been heard of since; `away`: not heard of for `AWAY_S`; `never`: it has not come yet."""


@dataclass(frozen=True, slots=True)
class JoinedEdge:
    """One edge. Times are milliseconds since the epoch.

    Attributes:
        seq: number of its row.
        name: what it is called; another one may have the name of one that was removed.
        digest: SHA-256 of its credential.
        spiffe_id: of one on another machine, who it must be at the gate; empty for one on this.
        added_at_ms: when it was added.
        added_by: by whom.
        removed_at_ms: when it was removed; None while it is there.
        removed_by: by whom; empty while it is there.
        removed_why: why; empty while it is there.
        heard_at_ms: when it was last heard of; None: never.
        word: what it last said of itself.
    """

    seq: int
    name: str
    digest: str
    added_at_ms: int
    added_by: str
    removed_at_ms: int | None = None
    removed_by: str = ""
    removed_why: str = ""
    heard_at_ms: int | None = None
    word: EdgeWord | None = None
    spiffe_id: str = ""

    @property
    def consumer(self) -> str:
        """What it is called as a consumer of bundles."""
        return edge_consumer(self.name)
