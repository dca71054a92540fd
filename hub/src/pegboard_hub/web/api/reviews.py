"""The API's routes to reviews. They only tell: deciding wants a person at a browser who has just said who they are.

An agent holds its person's token, and could otherwise let in what it is itself to use.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, Field

from pegboard.core.caller import Caller
from pegboard.core.names import ServerName
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.reviews.errors import UnknownReview
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.registry.reviews.reading import place_in_time
from pegboard_hub.registry.reviews.store import Place
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import (
    ReviewChange,
    ReviewComment,
    ReviewDetail,
    ReviewItem,
    ReviewKind,
    ReviewsAnswer,
    ReviewState,
    ReviewSummary,
)
from pegboard_hub.web.api.views import lists
from pegboard_hub.web.failures import refusal_of
from pegboard_hub.web.knowing import knows, looks_after
from pegboard_hub.web.origins import origin_of
from pegboard_hub.web.paging import AskedPage, cursor_of, place_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import LONGEST
from pegboard_hub.web.submission_shapes import ReleaseOrigin
from pegboard_hub.web.submissions_view import release_origin


def _server(text: str) -> str:
    return str(ServerName.parse(text))


class AskedReviews(AskedPage):
    """Which reviews, and which part of them."""

    server: Annotated[str, AfterValidator(_server)] | None = Field(
        default=None, max_length=LONGEST, description="only of this one: NAMESPACE/NAME"
    )
    state: ReviewState | None = Field(default=None, description="only in this state")
    kind: ReviewKind | None = Field(default=None, description="only of this kind")
    waiting: bool = Field(default=False, description="only those that wait for you, those that wait longest first")


def add_review_api_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/reviews",
        summary="Reviews of servers: what is open, and what was decided",
        response_model=ReviewsAnswer,
        responses=refusals(304, 400),
    )
    async def list_reviews(request: Request, caller: SignedIn, asked: Annotated[AskedReviews, Query()]) -> Response:
        waiting = await _waiting(parts, caller)
        place = place_of(parts.cursors, asked.cursor, caller, "/reviews", asked)
        after = (place[0], place[1]) if place else None
        listed, last = _page(waiting, asked, after) if asked.waiting else await _known(parts, caller, asked, after)
        for_me = {review.id for review in waiting}
        body = ReviewsAnswer(
            reviews=[ReviewSummary(**_summary(parts, caller, each, each.id in for_me)) for each in listed],
            next=cursor_of(parts.cursors, last, caller, "/reviews", asked) if last else None,
        )
        return tagged(request, body, caller)

    @router.get("/reviews/{review}", summary="One review", response_model=ReviewDetail, responses=refusals(304, 404))
    async def get_review(request: Request, caller: SignedIn, review: str) -> Response:
        try:
            return tagged(request, await _detail(parts, caller, review), caller)
        except UnknownReview as error:
            raise refusal_of(error) from error


def _page(waiting: list[Review], asked: AskedReviews, after: Place | None) -> tuple[list[Review], Place | None]:
    """A page of what waits for somebody, and the place where it ends; None on the last."""
    fit = [each for each in waiting if _fits(each, asked) and (after is None or place_in_time(each) > after)]
    shown = fit[: asked.limit]
    return shown, place_in_time(shown[-1]) if len(fit) > len(shown) else None


async def _known(
    parts: Parts, caller: Caller, asked: AskedReviews, after: Place | None
) -> tuple[list[Review], Place | None]:
    """A page of the reviews of servers that somebody may know of."""
    return await parts.reviewing.known(
        lambda server: knows(parts, caller, server),
        asked.limit,
        after,
        server=asked.server,
        states=[State(asked.state)] if asked.state else (),
        kinds=[Kind(asked.kind)] if asked.kind else (),
    )


async def _detail(parts: Parts, caller: Caller, review_id: str) -> ReviewDetail:
    reviewing = parts.reviewing
    review = await reviewing.find(review_id)
    server = parts.registry.current.servers.get(review.server)
    if server is None or not knows(parts, caller, server):
        raise UnknownReview(review_id)
    waits = any(each.id == review.id for each in await _waiting(parts, caller))
    hidden = ("opened_why", "checklist", "changes", "comments", "requested", "origin")
    told: dict[str, Any] = dict.fromkeys(hidden) | {"outcome_why": ""}
    if looks_after(parts, caller, server):
        words = reviewing.rights.checklist(review) if review.open else tuple(review.checklist)
        said = await reviewing.comments(review.id)
        told = {
            "opened_why": review.opened_why,
            "outcome_why": review.outcome_why,
            "checklist": [ReviewItem(item=each, holds=review.checklist.get(each, False)) for each in words],
            "changes": [ReviewChange(**change._asdict()) for change in review.changes],
            "requested": lists(review.subject.requested),
            "origin": await _origin(parts, review),
            "comments": [ReviewComment(at=each.at_ms, author=each.author, text=each.text) for each in said],
        }
    return ReviewDetail(
        **_summary(parts, caller, review, waits),
        **told,
        version=review.version,
    )


async def _origin(parts: Parts, review: Review) -> ReleaseOrigin | None:
    if not review.subject.release:
        return None
    async with parts.database.read() as connection:
        found = await origin_of(connection, review.server, review.subject.release)
    return release_origin(parts, found) if found else None


async def _waiting(parts: Parts, caller: Caller) -> list[Review]:
    if not is_person(caller):
        return []
    return await parts.reviewing.waiting_for(PersonFacts(caller.sub, caller.sub, caller.groups, caller.email))


def _summary(parts: Parts, caller: Caller, review: Review, waits: bool) -> dict[str, Any]:
    server = parts.registry.current.servers.get(review.server)
    # What reviewers wrote names tools, which not everybody may know.
    inside = server is not None and looks_after(parts, caller, server)
    return {
        "id": review.id,
        "server": review.server,
        "kind": review.kind.value,
        "state": review.state.value,
        "release": review.subject.release,
        "opened_at": review.opened_at_ms,
        "opened_by": review.opened_by,
        "decided_at": review.decided_at_ms,
        "decided_by": review.decided_by,
        "conditions": review.conditions if inside else "",
        "granted": None if review.granted is None else lists(review.granted, whole=inside),
        "waits_for_you": waits,
        "page": f"{parts.public_url}/reviews/{review.id}",
    }


def _fits(review: Review, asked: AskedReviews) -> bool:
    wanted = {"server": asked.server, "state": asked.state, "kind": asked.kind}
    return all(value is None or getattr(review, name) == value for name, value in wanted.items())
