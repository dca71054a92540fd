"""The page of a server's security and reviews: what was looked at, by whom, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fastapi import Request

from pegboard.core.caller import Caller
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reviews.model import Review
from pegboard_hub.registry.status import Isolation
from pegboard_hub.registry.visibility import owns
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.knowing import looks_after
from pegboard_hub.web.pages.frame import Frame, with_query
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.pages.servers.required import RequiredView, required_view
from pegboard_hub.web.parts import Parts

MOST_REVIEWS = 50


class Asked(NamedTuple):
    """One kind of access: each value with whether it was requested and granted."""

    title: str
    values: tuple[tuple[str, bool, bool], ...]


@dataclass(frozen=True, slots=True)
class SecurityView:
    """What was looked at, by whom, and what came of it.

    Attributes:
        insides: whether the person may read what reviewers and owners wrote.
        reviewed: whether servers of its namespace need reviews.
        egress: what it may reach outside, as it declares; None before it declares anything, and for those who may
            not know.
        ask: address of the page where its owners ask for access and submit it for review; empty for others.
        stop: address of the page with the switch that stops it; empty for those who may not.
        required: approvals that the registry requires of its tools; None for those who do not look after it.
    """

    head: Head
    insides: bool
    reviewed: bool
    isolation: Isolation
    asked: tuple[Asked, ...]
    reviews: tuple[Review, ...]
    egress: tuple[str, ...] | None
    ask: str = ""
    stop: str = ""
    required: RequiredView | None = None

    @property
    def granted(self) -> bool:
        """Whether anything is granted."""
        return any(self.head.server.granted)


async def security(parts: Parts, frame: Frame, server: RegisteredServer, request: Request) -> SecurityView:
    """What the page on security and reviews shows."""
    caller = frame.caller
    insides = looks_after(parts, caller, server)
    reviews = await parts.reviewing.listed(server=str(server.name), limit=MOST_REVIEWS)
    shown = server.release or server.waiting
    return SecurityView(
        head=await head(parts, frame, server),
        insides=insides,
        reviewed=parts.reviewing.rights.is_reviewed(server),
        isolation=parts.status.read().isolation,
        asked=tuple(_asked(server, insides)),
        reviews=tuple(reviews),
        egress=shown.manifest.egress if shown and insides else None,
        ask=f"/servers/{server.name}/access" if owns(caller, server) else "",
        stop=_switch(parts, caller, server),
        required=await required_view(parts, frame, server, request.query_params.get("done", "")),
    )


def _switch(parts: Parts, caller: Caller, server: RegisteredServer) -> str:
    """The address of the page of stops with this server filled in; empty for those who may not stop it."""
    who = Who.person(caller.sub, caller.groups)
    may = parts.stopping.governs(who) or parts.reviewing.rights.roles.own(caller.groups, server)
    if not may or not server.reachable or server.stopped:
        return ""
    return with_query("/stops", [("kind", "server"), ("name", str(server.name))])


def _asked(server: RegisteredServer, insides: bool) -> Iterator[Asked]:
    kinds = ("groups", "surfaces", "channels", "services") if insides else ("groups", "surfaces")
    for kind in kinds:
        granted = getattr(server.granted, kind)
        # What was asked for and not given is for those who look after it.
        requested = getattr(server.requested, kind) if insides else granted
        values = sorted({*requested, *granted})
        if values or kind in ("groups", "surfaces"):
            yield Asked(kind.capitalize(), tuple((value, value in requested, value in granted) for value in values))
