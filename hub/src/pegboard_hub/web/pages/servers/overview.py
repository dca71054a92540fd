"""The first page of a server: what it is, whether it can be called, and how much it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastapi import Request

from pegboard_hub.ledger.model import DAY_MS, Figures
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.model import Review
from pegboard_hub.web.knowing import open_from
from pegboard_hub.web.pages.frame import Frame
from pegboard_hub.web.pages.health_view import HealthView, health_view_of_one
from pegboard_hub.web.pages.servers import chart
from pegboard_hub.web.pages.servers.chart import Chart
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.pages.servers.reach import listed_anywhere, refusal
from pegboard_hub.web.parts import Parts

MOST_REVIEWS = 50
"""Among which the newest of each kind are looked for."""


@dataclass(frozen=True, slots=True)
class OverviewView:
    """What a server is.

    Attributes:
        url: its address; empty while it cannot be called.
        surfaces: from where it is open to the person.
        refusal: why it is not open to them; empty where it is, or nobody looks.
        reviews: the newest of each kind.
        usage: None while it was never live.
    """

    head: Head
    health: HealthView
    url: str
    surfaces: tuple[str, ...]
    refusal: str
    tool_count: int
    reviews: tuple[Review, ...]
    figures: Figures
    usage: Chart | None


async def overview(parts: Parts, frame: Frame, server: RegisteredServer, _request: Request) -> OverviewView:
    """What the first page shows."""
    caller = frame.caller
    name, now_ms = str(server.name), int(time.time() * 1000)
    surfaces = open_from(parts, caller, server)
    figures = (await parts.ledger.figures_of([name])).get(name, Figures())
    days, _ = await parts.ledger.usage_of(name, now_ms - chart.DAYS * DAY_MS)
    reviews = await parts.reviewing.listed(server=name, limit=MOST_REVIEWS)
    return OverviewView(
        head=await head(parts, frame, server),
        health=await health_view_of_one(parts, server),
        url=server.name.resource_url(parts.public_url) if server.reachable else "",
        surfaces=surfaces,
        refusal=refusal(parts, frame, server, surfaces),
        tool_count=len(listed_anywhere(parts, caller, server, surfaces)),
        reviews=newest_of_each_kind(reviews),
        figures=figures,
        usage=chart.chart(days, now_ms) if server.first_live_at_ms else None,
    )


def newest_of_each_kind(reviews: list[Review]) -> tuple[Review, ...]:
    """The newest review of each kind, of rows that come newest first."""
    found: dict[str, Review] = {}
    for row in reviews:
        found.setdefault(row.kind, row)
    return tuple(found[kind] for kind in sorted(found))
