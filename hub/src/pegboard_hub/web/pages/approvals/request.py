"""One request: deciding on it, following it, taking it back and asking for it again.

| address | what it is | script |
|---|---|---|
| `/approvals/ID` | everything that would run, and the forms of who decides; it stands still while they read | none |
| `/approvals/ID/live` | how it stands, for both; it follows by itself and has no form | htmx |
| `/approvals/ID/withdraw`, `/again` | taking back and asking again, for whose call it is | none |

Deciding wants a person at a browser who has just said who they are: an agent holds its person's token, and could
otherwise approve itself. A form decides on what stood on the page, by its digest, and on nothing else.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.approval import State
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.approvals_view import STATUSES
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.pages.approvals.answers import ALONE, is_alone, kept_of, kept_path, verdicts_of
from pegboard_hub.web.pages.approvals.batch import Found, decidable, find, may_do, no_request, open_ones
from pegboard_hub.web.pages.approvals.inbox import following, is_part, told_already, unchanged
from pegboard_hub.web.pages.approvals.looking import PATH, STATE_WORDS, decider_of
from pegboard_hub.web.pages.approvals.views import act_view, decide_view, live_view
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import Framer, with_query
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.recent import recently_authenticated
from pegboard_hub.web.parts import Parts

ONE: Final = f"{PATH}/{{id}}"

DONE: Final = {
    "approved": "Approved. It runs once, when the same call is made again; agents are told to do so.",
    "rejected": "Rejected. It does not run, and whoever asked is told why.",
    "some": "Decided: what you ticked may run once, the others do not run. Whoever asked is told why.",
    "withdrawn": "Taken back. It does not run.",
    "again": "Asked for again. Once it is approved, have the same call made again.",
}
"""What was done, by the word in the address."""


def add_request_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""
    _add_looking(router, parts, framer)
    _add_deciding(router, parts, framer)
    _add_acting(router, parts, framer)


def _add_looking(router: APIRouter, parts: Parts, framer: Framer) -> None:
    @router.get(ONE)
    async def look(request: Request, session: HereSession, id: str) -> Response:
        found = await find(parts, session, id)
        done = request.query_params.get("done", "")
        if not decidable(parts, found, alone=is_alone(request)):
            return see_other(with_query(f"{PATH}/{found.request.id}/live", [("done", done)]))
        form = kept_of(parts, request, session, found.request.id)
        return await _deciding(parts, framer, request, session, found, form, done=DONE.get(done, ""))

    @router.get(f"{ONE}/live")
    async def live(request: Request, session: HereSession, id: str) -> Response:
        found = await find(parts, session, id)
        view = await asyncio.to_thread(live_view, parts, found)
        part = is_part(request)
        if part and told_already(request, view.here):
            return unchanged()
        view = replace(view, done=DONE.get(request.query_params.get("done", ""), ""))
        frame = framer.frame(request, PATH, f"{shown(found.request.tool)} {STATE_WORDS[found.request.state]}")
        return following(framer.answer("approval_now.html" if part else "approval_live.html", frame, view))


def _add_deciding(router: APIRouter, parts: Parts, framer: Framer) -> None:
    @router.post(f"{ONE}/decide")
    async def decide(request: Request, session: HereSession, id: str) -> Response:
        form = await framer.browsers.form(request)
        # What the login says now: who has left a group a moment ago decides no more.
        session = await told_now(parts, request, session, at_most_s=0)
        found = await find(parts, session, id)
        then = kept_path(parts, session, found.request.id, form)
        session = recently_authenticated(request, session, then)
        try:
            verdicts = await asyncio.to_thread(verdicts_of, parts, found, form)
            decided = await parts.approvals.decide(decider_of(session), verdicts, form.get("why", ""))
        except ApprovalRefused as error:
            problem = problem_of(error)
            found = await find(parts, session, id)
            if decidable(parts, found, alone=ALONE in form):
                return await _deciding(parts, framer, request, session, found, form, problem)
            view = replace(await asyncio.to_thread(live_view, parts, found), problem=problem)
            return framer.answer("approval_live.html", framer.frame(request, PATH, "Approval"), view, problem.status)
        states = {each.state for each in decided}
        done = "some" if len(states) > 1 else "approved" if State.APPROVED in states else "rejected"
        return see_other(f"{PATH}/{found.request.id}?done={done}")

    @router.get(f"{ONE}/decide")
    async def back(session: HereSession, id: str) -> Response:
        """Where the form was sent to, opened again."""
        found = await find(parts, session, id)
        return see_other(f"{PATH}/{found.request.id}")


def _add_acting(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """What whose call it is may do: take it back, or ask for it again."""

    @router.get(f"{ONE}/withdraw")
    @router.get(f"{ONE}/again")
    async def before(request: Request, session: HereSession, id: str) -> Response:
        found = await find(parts, session, id)
        what = request.url.path.rpartition("/")[2]
        if not may_do(what, found):
            return see_other(f"{PATH}/{found.request.id}")
        return await _acting(parts, framer, request, found, what)

    @router.post(f"{ONE}/withdraw")
    async def withdraw(request: Request, session: HereSession, id: str) -> Response:
        form = await framer.browsers.form(request)
        found = await find(parts, session, id)
        ids = [each.id for each in open_ones(found)] if form.get("which") == "all" else [found.request.id]
        try:
            await parts.approvals.withdraw(session.facts.sub, ids, form.get("why", ""))
        except ApprovalRefused as error:
            return await _acting(parts, framer, request, found, "withdraw", problem_of(error), form.get("why", ""))
        return see_other(f"{PATH}/{found.request.id}/live?done=withdrawn")

    @router.post(f"{ONE}/again")
    async def again(request: Request, session: HereSession, id: str) -> Response:
        await framer.browsers.form(request)
        found = await find(parts, session, id)
        try:
            fresh = await parts.approvals.again(session.facts.sub, found.request.id)
        except ApprovalRefused as error:
            return await _acting(parts, framer, request, found, "again", problem_of(error))
        return see_other(f"{PATH}/{fresh.id}?done=again")


async def _deciding(
    parts: Parts,
    framer: Framer,
    request: Request,
    session: Session,
    found: Found,
    form: Form,
    problem: Problem | None = None,
    done: str = "",
) -> Response:
    """The page with everything that would run, and the form that decides on it."""
    # A page may hold a megabyte of strangers' text.
    alone = is_alone(request) or ALONE in form
    view = await asyncio.to_thread(decide_view, parts, session, found, form, alone=alone)
    view = replace(view, problem=problem, done=done)
    frame = framer.frame(request, PATH, "Waits for your yes")
    return framer.answer("approval_decide.html", frame, view, problem.status if problem else 200)


async def _acting(
    parts: Parts,
    framer: Framer,
    request: Request,
    found: Found,
    what: str,
    problem: Problem | None = None,
    why: str = "",
) -> Response:
    """The page that says what taking back, or asking again, would do."""
    title, view = await asyncio.to_thread(act_view, parts, found, what)
    view = replace(view, problem=problem, why=why)
    frame = framer.frame(request, PATH, title)
    return framer.answer("approval_act.html", frame, view, problem.status if problem else 200)


def problem_of(error: ApprovalRefused) -> Problem:
    """Why nothing was done, for the page with the form.

    Raises:
        Refused: it is not there for who asked.
    """
    if error.code == "unknown":
        raise no_request() from error
    return Problem(STATUSES.get(error.code, 422), f"Nothing was done. {error.message}", error.mend)
