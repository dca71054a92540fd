"""One submission on a page of its own: where it is, step by step with times, what was found, and what it changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.differences import Change, differences
from pegboard.core.publishing import UNDER_WAY, Event, Finding, Severity, State
from pegboard_hub.common.requests import refuse
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.deployment_store import live_before
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry import store
from pegboard_hub.registry.reviews.model import TITLES
from pegboard_hub.web.pages.frame import Frame, Framer
from pegboard_hub.web.pages.servers.deployment import is_partial, looked_after
from pegboard_hub.web.pages.servers.server import PATH as SERVER
from pegboard_hub.web.pages.servers.server import Head, head
from pegboard_hub.web.parts import Parts

PATH: Final = f"{SERVER}/submissions/{{id}}"

MOST_CHANGES: Final = 200

_TONES: Final = {
    State.LIVE: "allowed",
    State.FAILED: "denied",
    State.ROLLED_BACK: "denied",
}

_HEADLINES: Final = {
    State.SUBMITTED: "It is being built",
    State.BUILT: "It is built, and being checked",
    State.CHECKED: "It is checked, and goes to the registry",
    State.IN_REVIEW: "It waits for reviews",
    State.APPROVED: "It is approved, and is deployed next",
    State.DEPLOYING: "It is being deployed",
    State.LIVE: "It is live",
    State.SUPERSEDED: "A newer one took its place",
    State.ROLLED_BACK: "It was rolled back",
    State.FAILED: "It failed",
}


class Moment(NamedTuple):
    """One step of its way, and how long it took until the next, in seconds; None for the last."""

    event: Event
    took_s: float | None


class ReviewRow(NamedTuple):
    """A review that its release waits for, or passed."""

    id: str
    title: str
    state: str


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """What the page shows.

    Attributes:
        here: address of the page, which is asked for again by itself while it `follows`.
        version: that its release maps to; empty before it is pinned.
        before: version, or digest, of the release it is compared with; empty: it is the first.
        changes: what differs from that; of more than `MOST_CHANGES` the first.
        notes: findings that keep nothing from happening.
    """

    head: Head
    here: str
    submission: Submission
    tone: str
    headline: str
    follows: bool
    moments: tuple[Moment, ...]
    reviews: tuple[ReviewRow, ...]
    version: str
    before: str
    changes: tuple[Change, ...]
    more: int
    errors: tuple[Finding, ...]
    notes: tuple[Finding, ...]


def add_submission_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, namespace: str, name: str, id: str) -> HTMLResponse:
        frame, server = looked_after(parts, framer, request, f"{namespace}/{name}", "deployment")
        async with parts.database.read() as connection:
            found = await submissions.find(connection, id)
            if found is None or found.server != str(server.name):
                raise refuse(404, "not_found", "There is no such submission here.", "Look at the server’s page.")
            view = await _view(parts, connection, frame, found, await head(parts, frame, server))
        return framer.answer("submission_now.html" if is_partial(request) else "server_submission.html", frame, view)


async def _view(
    parts: Parts, connection: AsyncConnection, frame: Frame, found: Submission, above: Head
) -> SubmissionView:
    events = await submissions.events(connection, found.id)
    version = await store.semver(connection, found.server, found.release) if found.release else ""
    changes: tuple[Change, ...] = ()
    before = ""
    if found.declaration is not None:
        last = await live_before(connection, found.server, found.id, found.created_at_ms)
        changes = differences(last.declaration if last else None, found.declaration)
        if last is not None:
            before = await store.semver(connection, found.server, last.release) or last.release[:12]
    return SubmissionView(
        head=above,
        here=frame.link(f"/servers/{found.server}/submissions/{found.id}"),
        submission=found,
        tone=_TONES.get(found.state, "open"),
        headline=_HEADLINES[found.state],
        follows=found.state in {*UNDER_WAY, State.IN_REVIEW} or found.step == "watching",
        moments=_moments(events, found),
        reviews=await _reviews(parts, found),
        version=version,
        before=before,
        changes=changes[:MOST_CHANGES],
        more=max(0, len(changes) - MOST_CHANGES),
        errors=tuple(each for each in found.findings if each.severity is Severity.ERROR),
        notes=tuple(each for each in found.findings if each.severity is not Severity.ERROR),
    )


async def _reviews(parts: Parts, found: Submission) -> tuple[ReviewRow, ...]:
    listed = await parts.reviewing.listed(server=found.server) if found.release else ()
    return tuple(
        ReviewRow(review.id, TITLES[review.kind], review.state.value)
        for review in listed
        if review.subject.release == found.release and review.state.value != "superseded"
    )


def _moments(events: list[Event], found: Submission) -> tuple[Moment, ...]:
    ends = [each.at_ms for each in events[1:]]
    now = int(time.time() * 1000) if found.state in UNDER_WAY else None
    return tuple(
        Moment(event, (end - event.at_ms) / 1000 if end is not None else None)
        for event, end in zip(events, [*ends, now], strict=True)
    )
