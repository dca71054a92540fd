"""One review with all that a reviewer needs to decide on it, as one person may see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.impact import once_approved
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.deciding import NOTHING
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
from pegboard_hub.registry.reviews.store import TAKE_BACK
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.impact_view import ImpactView, impact_view
from pegboard_hub.web.knowing import knows
from pegboard_hub.web.origins import Origin, origin_of
from pegboard_hub.web.pages.browser import Form
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE
from pegboard_hub.web.pages.onward import sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent
from pegboard_hub.web.pages.reviews.differences import Shown, differing
from pegboard_hub.web.pages.reviews.forms import AccessRow, access_rows, item_field
from pegboard_hub.web.pages.reviews.inbox import PATH, Row, rows_of
from pegboard_hub.web.parts import Parts

MOST_EARLIER = 20


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
