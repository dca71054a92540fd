"""The pages of reviews: what waits for whom, and one review with all that a reviewer needs to decide on it.

Deciding wants a person at a browser who has just said who they are: an agent holds its person's token, and could
otherwise let itself in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard_hub.identity.person import PersonFacts, caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.impact import once_approved
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.record import LONGEST_WHY
from pegboard_hub.registry.reviews.deciding import NOTHING, Verdict
from pegboard_hub.registry.reviews.errors import NotYours, UnknownReview
from pegboard_hub.registry.reviews.granting import (
    Bound,
    Unreached,
    at_most,
    bounds_of,
    left_out_before,
    reaches_somebody,
)
from pegboard_hub.registry.reviews.lifecycle import moves_of
from pegboard_hub.registry.reviews.model import TITLES, Comment, Kept, Kind, Review, State, subject_of
from pegboard_hub.registry.reviews.reading import UNASKED
from pegboard_hub.registry.reviews.rules import ACCESS, common, everything, left_of, needed_of, together, within
from pegboard_hub.registry.reviews.store import TAKE_BACK, Place
from pegboard_hub.web.failures import FAILURES, Problem, problem_of, refusal_of
from pegboard_hub.web.impact_view import ImpactView, impact_view
from pegboard_hub.web.knowing import knows
from pegboard_hub.web.origins import Origin, origin_of
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, Framer, with_query
from pegboard_hub.web.pages.freshness import keep_fresh, told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated, with_filled_in
from pegboard_hub.web.pages.reviews.differences import Shown, differing
from pegboard_hub.web.pages.reviews.forms import (
    AccessRow,
    access_rows,
    item_field,
    ticked_access,
    version_of,
)
from pegboard_hub.web.paging import cursor_of, place_of
from pegboard_hub.web.parts import Parts

PATH = "/reviews"
MOST_ROWS = 50
MOST_WAITING = 200
MOST_EARLIER = 20
DECIDED = (State.APPROVED, State.REJECTED, State.SUPERSEDED)

DONE = {
    "approve": "Approved. The other reviews of this are still wanted.",
    "granted": "Approved. It was the last one: what all reviews approved holds now.",
    "vain": "Approved. It was the last one, and what all reviews approved lets nobody in.",
    "reject": "Rejected. What is asked for stays out.",
    "keep": "Kept as you filled it in. Nothing is decided yet.",
    "comment": "Said.",
    "reopen": "This is to be looked at again.",
    "genai": "This GenAI review is wanted, too.",
    "lift": "Later releases are looked at for GenAI only where they say that they use models.",
}
"""What was done, by the word in the address."""


@dataclass(frozen=True, slots=True)
class Row:
    """One review in a list; `vain` where it is approved, and nobody gets into its server all the same."""

    review: Review
    title: str
    href: str
    vain: bool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was asked for and not approved; empty unless it is approved."""
        granted = self.review.granted
        if granted is None:
            return ()
        pairs = zip(self.review.subject.requested, granted, strict=True)
        return tuple(value for asked, given in pairs for value in asked if value not in given)


@dataclass(frozen=True, slots=True)
class InboxView:
    """The lists; a review is in the first one that it fits.

    Attributes:
        mine: what the person or their teams asked for.
        more: how many more wait than are shown; those that wait longest are.
        older: the address of older decided ones; empty where there are none.
        decides: whether the person decides on any kind of review.
    """

    waiting: tuple[Row, ...]
    more: int
    mine: tuple[Row, ...]
    open: tuple[Row, ...]
    decided: tuple[Row, ...]
    older: str
    decides: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the checklist."""

    words: str
    field: str
    holds: bool


@dataclass(frozen=True, slots=True)
class ReviewView:
    """One review.

    Attributes:
        involved: whether the person may read what differs and what is said; others see outcomes alone.
        current: whether what it looks at is still asked for.
        origin: where the code comes from; None where it was not submitted, and to those not involved.
        differences: what is not as it was when it was last approved.
        whole: all of the release, for who is to decide on it; nothing where there is none, or nothing to decide.
        left_out: earlier approvals that left out what is asked for still, though nobody asked anew, by its field.
        sensitivity: of the data, as the release says that is looked at.
        impact: who would gain what beside then; None where nothing is to be decided.
        access: what is asked for beside what is granted, by kind of access.
        bounds: what leaves out some of what is asked for or granted, beside this review, where it is to be decided.
        hopeless: whether by them nobody would get in whatever this one approves.
        unreached: why nobody gets in, where it was approved all the same.
        ending: what is granted now, and another approval has left out: it ends with the last one.
        losses: who would lose what by that and by what is kept of this one; None where nobody would.
        ended: what ended with this approval, where it was the last one.
        lost: who lost what by that; None where nobody did, or it was long ago.
        beside: the newest review of each kind of the same subject, without this one.
        first: whether nothing of the server was ever approved.
        uses_models: whether it sends data to a language model, as its author says.
        owns: whether the person is one of its owners, or an operator.
        takes_back: whether they may take it back to a draft.
        refused: why the person does not decide on it; None where they do.
        lifts_genai: whether they may have later releases looked at for GenAI no longer, as somebody asked.
        recent: whether the person has just said who they are.
        again: where they say it again.
        form: what was sent and could not be done.
        reasons: why, as somebody filled it in, by which of the page's forms of one line it is in.
    """

    review: Review
    title: str
    server: RegisteredServer
    involved: bool
    current: bool
    origin: Origin | None
    differences: tuple[Shown, ...]
    whole: tuple[Shown, ...]
    left_out: Mapping[str, Review]
    sensitivity: str
    impact: ImpactView | None
    access: dict[str, tuple[AccessRow, ...]]
    bounds: tuple[Bound, ...]
    hopeless: bool
    unreached: Unreached | None
    ending: Access
    losses: ImpactView | None
    ended: Access
    lost: ImpactView | None
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
    beside: tuple[Row, ...]
    earlier: tuple[Row, ...]
    first: bool
    uses_models: bool
    refused: NotYours | None
    owns: bool
    takes_back: bool
    reopens: bool
    asks_genai: bool
    lifts_genai: bool
    recent: bool
    again: str
    form: Form
    reasons: Form
    done: str
    problem: Problem | None

    @property
    def path(self) -> str:
        """Where its forms go."""
        return f"{PATH}/{self.review.id}"

    @property
    def approved(self) -> tuple[tuple[str, ...], ...]:
        """What was approved, by kind: channels and services are for those who look after the server."""
        granted = self.review.granted or Access()
        return granted if self.involved else (granted.groups, granted.surfaces)

    def ticked(self, row: AccessRow) -> bool:
        """Whether the form approves one value, until somebody has sent or kept it otherwise: all of them, but those
        that were left out before."""
        if self.form or self.kept is None:
            return row.field in self.form if self.form else row.field not in self.left_out
        name, _, value = row.field.partition(":")
        return value in getattr(self.kept.access, name)

    def left_out_by(self, row: AccessRow) -> tuple[str, ...]:
        """Whose approval has not got one value: then it is not granted, whatever this one approves."""
        name, _, value = row.field.partition(":")
        return tuple(bound.who for bound in self.bounds if value not in getattr(bound.access, name))

    @property
    def authored(self) -> bool:
        """Whether anything that differs is an author's text, and not the names of access asked for on our page."""
        return any(not change.what.startswith(ACCESS) for change in self.review.changes)

    @property
    def kept(self) -> Kept | None:
        """What a reviewer put down for later."""
        return self.review.kept

    @property
    def conditions(self) -> str:
        """What stands in the field."""
        return self.form.get("conditions", "") if self.form or self.kept is None else self.kept.conditions

    @property
    def why(self) -> str:
        """What stands in the field."""
        return self.form.get("why", "") if self.form or self.kept is None else self.kept.why


def add_review_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    async def fresh(request: Request) -> None:
        await keep_fresh(parts, request)

    @router.get(PATH)
    async def inbox(request: Request, session: HereSession) -> HTMLResponse:
        view = await inbox_view(parts, session.facts, request.query_params.get("before", ""))
        return framer.answer("reviews.html", framer.frame(request, PATH), view)

    @router.get(f"{PATH}/{{review}}")
    async def look(request: Request, session: HereSession, review: str) -> HTMLResponse:
        asked = request.query_params
        reasons = {what: asked[what][:LONGEST_WHY] for what in REASONS if what in asked}
        return await page(request, session, review, reasons=reasons, done=DONE.get(asked.get("done", ""), ""))

    @router.get(f"{PATH}/{{review}}/{{what}}")
    async def back(_session: HereSession, review: str, what: str) -> Response:
        """Where a form was sent to, opened again: the review has it."""
        if what not in _ACTS:
            raise refusal_of(UnknownReview(review))
        return see_other(f"{PATH}/{quote(review, safe='')}")

    @router.post(f"{PATH}/{{review}}/{{what}}")
    async def act(request: Request, session: HereSession, review: str, what: str) -> Response:
        if what not in _ACTS:
            raise refusal_of(UnknownReview(review))
        form = await framer.browsers.form(request)
        # What the login says now: who has left a group a moment ago decides no more.
        session = await told_now(parts, request, session, at_most_s=0)
        then = f"{PATH}/{review}"
        try:
            if what == "decide" and not is_recent(session):
                # A long look at it is no reason to lose what was filled in: it is kept, and decides nothing.
                await _decide(parts, session.facts, review, form | {"verdict": "keep"})
                then = f"{then}?done=keep"
            if what in REASONS:
                then = with_filled_in(then, [(what, form.get("why", ""))])
            if what != "comment":
                recently_authenticated(request, session, then)
            found, done = await _ACTS[what](parts, session.facts, review, form)
        except FAILURES as error:
            reasons = {what: form.get("why", "")} if what in REASONS else {}
            form = {} if reasons else form
            return await page(request, session, review, form=form, reasons=reasons, problem=problem_of(error))
        return see_other(f"{PATH}/{found}?done={done}")

    async def page(
        request: Request,
        session: Session,
        review: str,
        *,
        form: Form | None = None,
        reasons: Form | None = None,
        done: str = "",
        problem: Problem | None = None,
    ) -> HTMLResponse:
        try:
            view = await review_view(parts, session, review)
            view = replace(view, form=form or {}, reasons=reasons or {}, done=done, problem=problem)
        except UnknownReview as error:
            raise refusal_of(error) from error
        if view.reasons:
            view = replace(view, again=sign_in_again_path(with_filled_in(view.path, view.reasons.items())))
        frame = framer.frame(request, PATH, f"{view.title} review of {view.server.name}")
        return framer.answer("review.html", frame, view, problem.status if problem else 200)


async def inbox_view(parts: Parts, person: PersonFacts, before: str = "") -> InboxView:
    """What the list of reviews shows to somebody."""
    reviewing, servers = parts.reviewing, parts.registry.current.servers
    caller = caller_of(person, DEFAULT_SURFACE, CLIENT)

    def sees(server: RegisteredServer) -> bool:
        return knows(parts, caller, server)

    waiting = await reviewing.waiting_for(person)
    open_ones, _ = await reviewing.known(sees, MOST_ROWS * 4, states=[State.OPEN])
    asked, _ = await reviewing.known(sees, MOST_ROWS, opened_by=person.sub)
    teams = [each for each in open_ones if _owner(servers.get(each.server)) in person.groups]
    decided, last = await reviewing.known(
        sees,
        MOST_ROWS,
        _place(place_of(parts.cursors, before or None, caller, PATH)),
        by_decision=True,
        states=DECIDED,
    )
    told = {review.id for review in waiting}
    mine = _unseen([*asked, *teams], told)
    others = _unseen(open_ones, told)
    shown = _unseen(decided, told)
    vain = await _in_vain(parts, [*mine, *shown])
    return InboxView(
        waiting=rows_of(waiting[:MOST_WAITING]),
        more=max(0, len(waiting) - MOST_WAITING),
        mine=rows_of(mine, vain),
        open=rows_of(others),
        decided=rows_of(shown, vain),
        older=with_query(PATH, [("before", cursor_of(parts.cursors, last, caller, PATH))]) if last else "",
        decides=bool(reviewing.rights.kinds_of(person.groups)),
    )


async def review_view(parts: Parts, session: Session, review_id: str) -> ReviewView:
    """One review, for one person.

    Raises:
        UnknownReview: there is none, or it is of a server that they may not know of.
    """
    reviewing, person = parts.reviewing, session.facts
    review = await reviewing.find(review_id)
    server = parts.registry.current.servers.get(review.server)
    if server is None or not knows(parts, caller_of(person, DEFAULT_SURFACE, CLIENT), server):
        raise UnknownReview(review_id)
    involved = reviewing.rights.roles.involve(person.groups, server)
    every = await reviewing.listed(server=review.server, limit=MOST_EARLIER * 2)
    same = [each for each in every if each.subject == review.subject and each.state is not State.SUPERSEDED]
    current = review.subject == subject_of(server) and review.state is not State.SUPERSEDED
    refused = reviewing.rights.why_not(person, review, await reviewing.authors(server))
    decides = current and review.open
    others = await reviewing.beside(server) if decides else {}
    newest_of = {each.kind: each for each in reversed(same)}
    newest, beside = newest_of.get(review.kind, review), [each for each in newest_of.values() if each.id != review.id]
    told = {review.id, *(each.id for each in beside)}
    granted = at_most(others, server)
    release = (server.waiting or server.release) if decides else None
    kinds = reviewing.rights.kinds_of(person.groups)
    ended = await reviewing.ended_by(review)
    return ReviewView(
        review=review,
        title=TITLES[review.kind],
        server=server,
        involved=involved,
        current=current,
        origin=await _origin(parts, review) if involved else None,
        differences=await asyncio.to_thread(differing, review.changes) if involved else (),
        whole=await asyncio.to_thread(differing, everything(release)) if release and involved else (),
        left_out=_left_out(review, every, server) if involved and decides else {},
        sensitivity=release.manifest.sensitivity if release else server.sensitivity,
        impact=await _impact(parts, server) if involved and decides else None,
        access=access_rows(server.granted, review.subject.requested),
        bounds=_narrower(others, server) if decides else (),
        hopeless=decides and not reaches_somebody(granted),
        ending=left_of(server.granted, granted) if decides else NOTHING,
        losses=await _losses(parts, server, review, granted) if involved and decides else None,
        ended=ended,
        lost=await _lost(parts, server, review, ended) if involved and current else None,
        unreached=(await reviewing.unreached([server])).get(review.server) if current else None,
        items=_items(parts, review),
        comments=tuple(await reviewing.comments(review.id)) if involved else (),
        beside=rows_of(beside),
        earlier=rows_of(each for each in every if each.id not in told)[:MOST_EARLIER],
        first=not any(server.granted) and not any(each.state is State.APPROVED for each in every if each not in same),
        uses_models=Kind.GENAI in needed_of(server),
        refused=refused,
        owns=reviewing.rights.owns(person, server),
        takes_back=TAKE_BACK in moves_of(server),
        reopens=current
        and server.lifecycle not in UNASKED
        and newest.id == review.id
        and review.state is State.REJECTED
        and (reviewing.rights.owns(person, server) or review.kind in kinds),
        asks_genai=decides
        and review.kind is Kind.SECURITY
        and refused is None
        and not any(each.kind is Kind.GENAI for each in same),
        lifts_genai=review.kind is Kind.GENAI and refused is None and await reviewing.genai_asked(review.server),
        recent=is_recent(session),
        again=sign_in_again_path(f"{PATH}/{review.id}"),
        form={},
        reasons={},
        done="",
        problem=None,
    )


async def _origin(parts: Parts, review: Review) -> Origin | None:
    if not review.subject.release:
        return None
    async with parts.database.read() as connection:
        return await origin_of(connection, review.server, review.subject.release)


async def _decide(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    """Approve, reject, or keep all of it for later, as the button says."""
    found = await parts.reviewing.find(review)
    held = frozenset(item for item in parts.reviewing.rights.checklist(found) if item_field(item) in form)
    chosen, version = form.get("verdict", ""), version_of(form)
    verdict = Verdict(
        version=version,
        approves=chosen == "approve",
        why=form.get("why", ""),
        access=ticked_access(form),
        conditions=form.get("conditions", ""),
        held=held,
    )
    if chosen not in ("approve", "reject"):
        await parts.reviewing.put_down(person, review, verdict)
        return review, "keep"
    granted = await parts.reviewing.decide(person, review, verdict)
    if granted is None:
        return review, chosen
    return review, "granted" if reaches_somebody(granted) else "vain"


async def _comment(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    await parts.reviewing.comment(person, review, form.get("comment", ""))
    return review, "comment"


async def _reopen(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.reopen(person, review, form.get("why", "")), "reopen"


async def _genai(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.ask_genai(person, review, form.get("why", "")), "genai"


async def _lift(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.lift_genai(person, review, form.get("why", "")), "lift"


_ACTS = {"decide": _decide, "comment": _comment, "reopen": _reopen, "genai": _genai, "lift": _lift}
"""The forms of the page, by the end of the address that they are sent to; each gives the review to go on to, and a
word for what was done."""


REASONS = ("reopen", "genai", "lift")
"""Those of them that are one line, which says why."""


async def _impact(parts: Parts, server: RegisteredServer) -> ImpactView:
    """Who would gain what if all of it were approved."""
    before = await parts.reviewing.approved_last(server)
    return await impact_view(parts, before, once_approved(server, together(server.granted, server.requested)))


async def _losses(parts: Parts, server: RegisteredServer, review: Review, granted: Access) -> ImpactView | None:
    """Who would lose what, if it were granted as others approved and this one is kept until now."""
    left = common(granted, review.kept.access) if review.kept else granted
    before = replace(await parts.reviewing.approved_last(server), waiting=None)
    if within(server.granted, left) or before.release is None:
        return None
    return await impact_view(parts, before, once_approved(before, common(server.granted, left)))


async def _lost(parts: Parts, server: RegisteredServer, review: Review, ended: Access) -> ImpactView | None:
    """Who lost what with an approval, as long as what it granted holds."""
    if not any(ended) or not server.reachable or review.decided_at_ms is None:
        return None
    before = replace(server, granted=together(server.granted, ended))
    return await impact_view(parts, before, server)


def _left_out(review: Review, every: Iterable[Review], server: RegisteredServer) -> dict[str, Review]:
    """What is not granted now, because earlier approvals left it out."""
    found = left_out_before(review, every)
    return {
        row.field: found[row.field]
        for rows in access_rows(server.granted, review.subject.requested).values()
        for row in rows
        if row.standing == "new" and row.field in found
    }


def _narrower(others: Mapping[Kind, Review], server: RegisteredServer) -> tuple[Bound, ...]:
    """What leaves something out of what could be granted."""
    whole = together(server.requested, server.granted)
    return tuple(bound for bound in bounds_of(others, server) if not within(whole, bound.access))


def _items(parts: Parts, review: Review) -> tuple[Item, ...]:
    """The list as it is to be ticked, or as it was when somebody decided."""
    words = parts.reviewing.rights.checklist(review) if review.open else tuple(review.checklist)
    return tuple(Item(each, item_field(each), review.checklist.get(each, False)) for each in words)


def rows_of(reviews: Iterable[Review], vain: Collection[str] = ()) -> tuple[Row, ...]:
    """Reviews for a list; `vain` are the ids of those approved in vain."""
    return tuple(Row(each, TITLES[each.kind], f"{PATH}/{each.id}", each.id in vain) for each in reviews)


async def _in_vain(parts: Parts, reviews: Iterable[Review]) -> frozenset[str]:
    """The approved ones of what is asked for now, where nobody gets in all the same, by their ids."""
    current = parts.registry.current.servers
    approved = [each for each in reviews if each.state is State.APPROVED and each.server in current]
    held = [each for each in approved if each.subject == subject_of(current[each.server])]
    closed = await parts.reviewing.unreached({each.server: current[each.server] for each in held}.values())
    return frozenset(each.id for each in held if each.server in closed)


def _unseen(reviews: Iterable[Review], told: set[str]) -> list[Review]:
    """Those that were not told of yet; now they were."""
    found = [review for review in reviews if review.id not in told]
    told |= {review.id for review in found}
    return list({review.id: review for review in found}.values())


def _owner(server: RegisteredServer | None) -> str | None:
    return server.owner if server else None


def _place(read: Any) -> Place | None:
    return (read[0], read[1]) if read else None
