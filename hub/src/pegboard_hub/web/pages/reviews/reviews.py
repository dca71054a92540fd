"""The pages of reviews: what waits for whom, and one review with all that a reviewer needs to decide on it.

Deciding wants a person at a browser who has just said who they are: an agent holds its person's token, and could
otherwise let itself in.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.record import LONGEST_WHY
from pegboard_hub.registry.reviews.errors import UnknownReview
from pegboard_hub.web.failures import FAILURES, Problem, problem_of, refusal_of
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated, with_filled_in
from pegboard_hub.web.pages.reviews.acts import ACTS, DONE, REASONS
from pegboard_hub.web.pages.reviews.inbox import PATH, inbox_view
from pegboard_hub.web.pages.reviews.one import review_view
from pegboard_hub.web.parts import Parts


def add_review_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(PATH)
    async def inbox(request: Request, session: HereSession) -> HTMLResponse:
        view = await inbox_view(parts, session.facts, request.query_params.get("before", ""))
        return framer.answer("reviews.html", framer.frame(request, PATH), view)

    @router.get(f"{PATH}/{{review}}")
    async def look(request: Request, session: HereSession, review: str) -> HTMLResponse:
        asked = request.query_params
        reasons = {what: asked[what][:LONGEST_WHY] for what in REASONS if what in asked}
        return await _page(
            parts, framer, request, session, review, reasons=reasons, done=DONE.get(asked.get("done", ""), "")
        )

    @router.get(f"{PATH}/{{review}}/{{what}}")
    async def back(_session: HereSession, review: str, what: str) -> Response:
        """Where a form was sent to, opened again: the review has it."""
        if what not in ACTS:
            raise refusal_of(UnknownReview(review))
        return see_other(f"{PATH}/{quote(review, safe='')}")

    @router.post(f"{PATH}/{{review}}/{{what}}")
    async def act(request: Request, session: HereSession, review: str, what: str) -> Response:
        if what not in ACTS:
            raise refusal_of(UnknownReview(review))
        form = await framer.browsers.form(request)
        # What the login says now: who has left a group a moment ago decides no more.
        session = await told_now(parts, request, session, at_most_s=0)
        then = f"{PATH}/{review}"
        try:
            if what == "decide" and not is_recent(session):
                # A long look at it is no reason to lose what was filled in: it is kept, and decides nothing.
                await ACTS[what](parts, session.facts, review, form | {"verdict": "keep"})
                then = f"{then}?done=keep"
            if what in REASONS:
                then = with_filled_in(then, [(what, form.get("why", ""))])
            if what != "comment":
                recently_authenticated(request, session, then)
            found, done = await ACTS[what](parts, session.facts, review, form)
        except FAILURES as error:
            reasons = {what: form.get("why", "")} if what in REASONS else {}
            form = {} if reasons else form
            return await _page(
                parts, framer, request, session, review, form=form, reasons=reasons, problem=problem_of(error)
            )
        return see_other(f"{PATH}/{found}?done={done}")


async def _page(
    parts: Parts,
    framer: Framer,
    request: Request,
    session: Session,
    review: str,
    *,
    form: Form | None = None,
    reasons: Form | None = None,
    done: str = "",
    problem: Problem | None = None,
) -> HTMLResponse:
    """One review, with what was sent and could not be done."""
    try:
        view = await review_view(parts, session, review)
        view = replace(view, form=form or {}, reasons=reasons or {}, done=done, problem=problem)
    except UnknownReview as error:
        raise refusal_of(error) from error
    if view.reasons:
        view = replace(view, again=sign_in_again_path(with_filled_in(view.path, view.reasons.items())))
    frame = framer.frame(request, PATH, f"{view.title} review of {view.server.name}")
    return framer.answer("review.html", frame, view, problem.status if problem else 200)
