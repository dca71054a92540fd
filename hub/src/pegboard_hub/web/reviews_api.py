"""The API's routes to reviews. They only tell: deciding wants a person at a browser who has just said who they are.

An agent holds its person's token, and could otherwise let in what it is itself to use.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from pegboard.core.caller import Caller
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.errors import UnknownServer
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.errors import UnknownReview
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.registry.visibility import unpublished
from pegboard_hub.web.auth import SignedIn
from pegboard_hub.web.etag import tagged
from pegboard_hub.web.openapi import refusals
from pegboard_hub.web.paging import AskedPage, cursor_of, place_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.review_forms import refusal_of
from pegboard_hub.web.schema import (
    LONGEST,
    AccessValues,
    ReviewChange,
    ReviewComment,
    ReviewDetail,
    ReviewItem,
    ReviewKind,
    ReviewsAnswer,
    ReviewState,
    ReviewSummary,
)

LIST = "/reviews"


class AskedReviews(AskedPage):
    """Which reviews, and which part of them."""

    server: str | None = Field(default=None, max_length=LONGEST, description="only of this one: NAMESPACE/NAME")
    state: ReviewState | None = Field(default=None, description="only in this state")
    kind: ReviewKind | None = Field(default=None, description="only of this kind")
    waiting: bool = Field(default=False, description="only those that wait for you, those that wait longest first")


def review_api_routes(parts: Parts) -> APIRouter:
    """The routes; whoever includes them sees to the sign-in."""
    router = APIRouter(tags=["Reviews"])

    @router.get(
        "/reviews",
        summary="Reviews of servers: what is open, and what was decided",
        response_model=ReviewsAnswer,
        responses=refusals(304, 400),
    )
    async def list_reviews(request: Request, caller: SignedIn, asked: Annotated[AskedReviews, Query()]) -> Response:
        waiting = {review.id: review for review in await _waiting(parts, caller)}
        if asked.waiting:
            listed = [review for review in waiting.values() if _fits(review, asked)]
            rest = listed[asked.limit :]
            listed = listed[: asked.limit]
        else:
            found = await parts.reviewing.listed(
                server=asked.server,
                states=[State(asked.state)] if asked.state else (),
                kinds=[Kind(asked.kind)] if asked.kind else (),
                before=_place(place_of(parts.cursors, asked.cursor, caller, LIST, asked)),
                limit=asked.limit + 1,
            )
            listed, rest = found[: asked.limit], found[asked.limit :]
        last = listed[-1] if rest and not asked.waiting else None
        after = cursor_of(parts.cursors, [last.opened_at_ms, last.id], caller, LIST, asked) if last else None
        summaries = [
            ReviewSummary(**_summary(parts, caller, each, each.id in waiting))
            for each in listed
            if _told_of(parts, caller, each)
        ]
        return tagged(request, ReviewsAnswer(reviews=summaries, next=after), caller)

    @router.get("/reviews/{review}", summary="One review", response_model=ReviewDetail, responses=refusals(304, 404))
    async def get_review(request: Request, caller: SignedIn, review: str) -> Response:
        try:
            return tagged(request, await _detail(parts, caller, review), caller)
        except (UnknownReview, UnknownServer) as error:
            raise refusal_of(error) from error

    return router


async def _detail(parts: Parts, caller: Caller, review_id: str) -> ReviewDetail:
    reviewing = parts.reviewing
    review = await reviewing.find(review_id)
    server = parts.registry.current.servers.get(review.server)
    if server is None:
        raise UnknownServer(review.server)
    if not _told_of(parts, caller, review):
        raise UnknownReview(review_id)
    waits = any(each.id == review.id for each in await _waiting(parts, caller))
    told: dict[str, Any] = dict.fromkeys(("opened_why", "checklist", "changes", "comments"), None) | {
        "outcome_why": ""
    }
    if _involved(parts, caller, server):
        words = reviewing.checklist(review.kind) if review.open else tuple(review.checklist)
        said = await reviewing.comments(review.id)
        told = {
            "opened_why": review.opened_why,
            "outcome_why": review.outcome_why,
            "checklist": [ReviewItem(item=each, holds=review.checklist.get(each, False)) for each in words],
            "changes": [ReviewChange(**change._asdict()) for change in review.changes],
            "comments": [ReviewComment(at=each.at_ms, author=each.author, text=each.text) for each in said],
        }
    return ReviewDetail(
        **_summary(parts, caller, review, waits),
        **told,
        requested=_values(review.subject.requested),
        version=review.version,
    )


async def _waiting(parts: Parts, caller: Caller) -> list[Review]:
    if caller.sub_type != "person":
        return []
    return await parts.reviewing.waiting_for(PersonFacts(caller.sub, caller.sub, caller.groups, caller.email))


def _involved(parts: Parts, caller: Caller, server: RegisteredServer | None) -> bool:
    """Whether somebody may read what reviewers and authors wrote: it names tools."""
    return server is not None and caller.sub_type == "person" and parts.reviewing.is_involved(caller.groups, server)


def _told_of(parts: Parts, caller: Caller, review: Review) -> bool:
    """Whether somebody may know of the server that is reviewed; a draft's reviews give it away."""
    server = parts.registry.current.servers.get(review.server)
    return server is None or not unpublished(server) or _involved(parts, caller, server)


def _summary(parts: Parts, caller: Caller, review: Review, waits: bool) -> dict[str, Any]:
    server = parts.registry.current.servers.get(review.server)
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
        "conditions": review.conditions if _involved(parts, caller, server) else "",
        "granted": None if review.granted is None else _values(review.granted),
        "waits_for_you": waits,
        "page": f"{parts.public_url}/reviews/{review.id}",
    }


def _values(access: Access) -> AccessValues:
    return AccessValues(**{name: list(values) for name, values in access._asdict().items()})


def _fits(review: Review, asked: AskedReviews) -> bool:
    wanted = {"server": asked.server, "state": asked.state, "kind": asked.kind}
    return all(value is None or getattr(review, name) == value for name, value in wanted.items())


def _place(told: Any) -> tuple[int, str] | None:
    """Where a page begins, as the cursor of the one before says."""
    return None if told is None else (int(told[0]), str(told[1]))
