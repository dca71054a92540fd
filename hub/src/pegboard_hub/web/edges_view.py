"""Edges as the API, the page and the internal door tell them: the instance's own, and those that joined."""

from __future__ import annotations

from pydantic import BaseModel, Field

from pegboard.core.bundle import EDGE
from pegboard_hub.edges.model import JoinedEdge
from pegboard_hub.web.parts import Parts

OWN_STANDINGS = {"live": "live", "starting": "unready", "down": "away"}
"""How the instance's own edge stands, by the state of its process; anything else is `unknown`."""


NOT_THEIRS = ("Edges are for operators and security to look at.", "Ask the platform team how they are.")


class EdgeEntry(BaseModel):
    """One edge. Times are milliseconds since the epoch."""

    name: str
    joined: bool = Field(description="false: the instance's own")
    standing: str = Field(
        description="live; unready: it takes no calls; awaited: the hub has just started; away: not heard of for "
        "half a minute; never: it has not come yet; removed; unknown"
    )
    version: int | None = Field(description="of the bundle it decides with, as it says itself")
    newest: int | None = Field(description="the newest version that the hub has written")
    signed_at: int | None = Field(description="when its bundle was signed")
    heard_at: int | None = Field(description="when it was last heard of; of the instance's own it is not told")
    faults: list[str] = Field(description="what it was told and does not use; its own words")
    spiffe_id: str = Field(description="of one on another machine, who it is to the gate; empty for one on this")
    software: str = Field(description="the version of Pegboard that it runs, as it says itself")
    added_at: int | None
    added_by: str
    removed_at: int | None
    removed_by: str
    removed_why: str

    @property
    def is_behind(self) -> bool:
        """Whether it decides with an older bundle than there is."""
        return self.version is not None and self.newest is not None and self.version < self.newest


class EdgesAnswer(BaseModel):
    """The edges: the instance's own first, those that joined by name, then those that were removed."""

    edges: list[EdgeEntry]


def edge_entries(parts: Parts) -> list[EdgeEntry]:
    """Every edge."""
    return [_own(parts), *(_joined(parts, edge) for edge in parts.edges.listed)]


def _own(parts: Parts) -> EdgeEntry:
    status = parts.status.read()
    return EdgeEntry(
        name=EDGE,
        joined=False,
        standing=OWN_STANDINGS.get(status.process_state(EDGE), "unknown"),
        version=parts.rotation.version_of(EDGE),
        newest=parts.registry.version_of(EDGE),
        signed_at=None,
        heard_at=None,
        faults=list(status.edge_faults),
        software="",
        spiffe_id="",
        added_at=None,
        added_by="",
        removed_at=None,
        removed_by="",
        removed_why="",
    )


def _joined(parts: Parts, edge: JoinedEdge) -> EdgeEntry:
    word = edge.word
    return EdgeEntry(
        name=edge.name,
        joined=True,
        standing=parts.edges.standing(edge),
        version=word.version if word else None,
        newest=parts.registry.version_of(edge.consumer) if edge.removed_at_ms is None else None,
        signed_at=word.issued_at * 1000 if word and word.issued_at else None,
        heard_at=edge.heard_at_ms,
        faults=list(word.faults) if word else [],
        software=word.software if word else "",
        spiffe_id=edge.spiffe_id,
        added_at=edge.added_at_ms,
        added_by=edge.added_by,
        removed_at=edge.removed_at_ms,
        removed_by=edge.removed_by,
        removed_why=edge.removed_why,
    )
