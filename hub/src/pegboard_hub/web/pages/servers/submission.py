"""One submission on a page of its own: where it is, step by step with times, what was found, and what it changes.

Those who own the server, or operate, take it back here while nothing of it runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.differences import Change, differences
from pegboard.core.publishing import UNDER_WAY, Event, Finding, Severity, State
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.deployment_store import live_before
from pegboard_hub.publishing.handing import TAKEN_BACK
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry import store
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.record import check_why
from pegboard_hub.registry.reviews.model import TITLES
from pegboard_hub.web.deployments_view import LONGEST_WHY
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.origins import Origin, origin
from pegboard_hub.web.pages.browser import HereSession, signed_in
from pegboard_hub.web.pages.frame import Frame, Framer
from pegboard_hub.web.pages.freshness import keep_fresh
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.servers.deployment import acting, is_partial, looked_after, person
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.pages.servers.way import Step, lasted, way_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submissions_view import refusals_told

PATH: Final = f"{SERVER}/submissions/{{id}}"
TAKE_BACK: Final = f"{PATH}/take-back"

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


_NEXT: Final = {
    State.SUBMITTED: "Nothing to do: a builder takes it, reads which tools its code declares, and it is checked.",
    State.BUILT: "Nothing to do: what was built is held against the source, and checked.",
    State.CHECKED: "Nothing to do: the registry sees whom it has to ask.",
    State.IN_REVIEW: "Its reviewers look at what it changes. What is live goes on meanwhile.",
    State.APPROVED: "Nothing to do: it is deployed by itself, as soon as what is on its way has come through.",
    State.DEPLOYING: "Nothing changes for anybody until its replicas answer; then it takes the calls.",
    State.ROLLED_BACK: "The release before it has the calls. Mend it, and submit it again.",
    State.FAILED: "What was live goes on as it was. Mend what is named, and submit it again.",
}
"""What comes next by itself, or is to be done, by state."""

_WATCHED: Final = "It takes all calls, and is watched: if it does worse than the last one, that takes them back."
_SERVED: Final = "It was live before. The deployment’s page goes back to it, if it is wanted again."


class Moment(NamedTuple):
    """One event of its way, by whom, and how long it took until the next; empty for the last.

    Which builder took it says nothing to its author: nobody is named then.
    """

    event: Event
    who: str
    took: str


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
        way: the steps of its way, as a row.
        then: what comes next; empty where nothing does.
        back: where whoever is signed in takes it back; empty where it is too late, or not theirs.
        version: that its release maps to; empty before it is pinned.
        before: version, or digest, of the release it is compared with; empty: it is the first.
        changes: what differs from that; of more than `MOST_CHANGES` the first.
        origin: its packages beside those of what was live before; None before it is built.
        notes: findings that keep nothing from happening.
    """

    head: Head
    here: str
    submission: Submission
    tone: str
    headline: str
    then: str
    follows: bool
    back: str
    way: tuple[Step, ...]
    moments: tuple[Moment, ...]
    reviews: tuple[ReviewRow, ...]
    version: str
    before: str
    changes: tuple[Change, ...]
    more: int
    errors: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    origin: Origin | None
    why: str = ""
    longest_why: int = LONGEST_WHY
    problem: Problem | None = None


def add_submission_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, namespace: str, name: str, id: str) -> HTMLResponse:
        frame, server = looked_after(parts, framer, request, f"{namespace}/{name}", "deployment")
        return page(request, frame, await submission_view(parts, frame, server, id))

    @router.post(TAKE_BACK)
    async def take_back(request: Request, _session: HereSession, namespace: str, name: str, id: str) -> Response:
        await keep_fresh(parts, request)
        form = await framer.browsers.form(request)
        frame, server = looked_after(parts, framer, request, f"{namespace}/{name}", "deployment")
        view = await submission_view(parts, frame, server, id)
        who, why = person(signed_in(request)), form.get("why", "")
        try:
            with refusals_told():
                said = check_why(why)
                await parts.publishing.take_back(Submitter(who.actor.sub, "person", who.groups), id, said)
        except Refused as error:
            told = error.refusal
            problem = Problem(error.status, f"Nothing was done. {told.message}", told.what_to_do)
            return page(request, frame, replace(view, why=why, problem=problem))
        return see_other(f"/servers/{server.name}/submissions/{view.submission.id}")

    @router.get(TAKE_BACK)
    async def back(_session: HereSession, namespace: str, name: str, id: str) -> Response:
        """Where the form was sent to, opened again."""
        return see_other(
            "/".join(
                ("/servers", *(quote(part, safe="") for part in (namespace, name)), "submissions", quote(id, safe=""))
            )
        )

    def page(request: Request, frame: Frame, view: SubmissionView) -> HTMLResponse:
        template = "submission_now.html" if is_partial(request) else "server_submission.html"
        return framer.answer(template, frame, view, view.problem.status if view.problem else 200)


async def submission_view(parts: Parts, frame: Frame, server: RegisteredServer, id_: str) -> SubmissionView:
    """The page of one submission.

    Raises:
        Refused: the server has none of that id.
    """
    async with parts.database.read() as connection:
        found = await submissions.find(connection, id_)
        if found is None or found.server != str(server.name):
            raise refuse(404, "not_found", "There is no such submission here.", "Look at the server’s page.")
        return await _view(parts, connection, frame, found, await head(parts, frame, server))


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
    session, here = acting(frame), f"/servers/{found.server}/submissions/{found.id}"
    theirs = session is not None and parts.steering.may(person(session), above.server)
    now_ms = int(time.time() * 1000)
    return SubmissionView(
        head=above,
        here=frame.link(here),
        submission=found,
        tone=_TONES.get(found.state, "open"),
        headline="It was taken back" if found.step == "taken back" else _HEADLINES[found.state],
        then=_then(found, events),
        follows=found.state in {*UNDER_WAY, State.IN_REVIEW} or found.step == "watching",
        back=f"{here}/take-back" if theirs and found.state in TAKEN_BACK else "",
        way=way_of(found, events, now_ms),
        moments=_moments(events, found, now_ms),
        reviews=await _reviews(parts, found),
        version=version,
        before=before,
        changes=changes[:MOST_CHANGES],
        more=max(0, len(changes) - MOST_CHANGES),
        errors=tuple(each for each in found.findings if each.severity is Severity.ERROR),
        origin=await origin(connection, found) if found.artifact is not None else None,
        notes=tuple(each for each in found.findings if each.severity is not Severity.ERROR),
    )


async def _reviews(parts: Parts, found: Submission) -> tuple[ReviewRow, ...]:
    listed = await parts.reviewing.listed(server=found.server) if found.release else ()
    return tuple(
        ReviewRow(review.id, TITLES[review.kind], review.state.value)
        for review in listed
        if review.subject.release == found.release and review.state.value != "superseded"
    )


def _then(found: Submission, events: list[Event]) -> str:
    """What comes next of it; empty where nothing does, or its trouble says what to do."""
    if found.state is State.LIVE:
        return _WATCHED if found.step == "watching" else ""
    if found.state is State.SUPERSEDED:
        return _SERVED if any(each.state is State.LIVE for each in events) else ""
    if found.state in (State.FAILED, State.ROLLED_BACK) and found.trouble and found.trouble.mend:
        return ""
    return _NEXT.get(found.state, "")


def _moments(events: list[Event], found: Submission, now_ms: int) -> tuple[Moment, ...]:
    """Every event with how long it lasted; the last one too, while it is under way."""
    ends: list[int | None] = [each.at_ms for each in events[1:]]
    ends.append(now_ms if found.state in UNDER_WAY else None)
    return tuple(
        Moment(
            event,
            event.who if event.who != found.builder else "",
            lasted((end - event.at_ms) / 1000) if end is not None else "",
        )
        for event, end in zip(events, ends[: len(events)], strict=True)
    )
