"""Deciding on a review: approving it, rejecting it, and what comes of the last approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry import store as servers
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews import store
from pegboard_hub.registry.reviews.errors import ReviewConflict
from pegboard_hub.registry.reviews.granting import check_shares, granted_by, reaches_somebody, reason_of
from pegboard_hub.registry.reviews.model import Kind, Review, State, in_order, subject_of
from pegboard_hub.registry.reviews.reading import look_up
from pegboard_hub.registry.reviews.rights import Rights
from pegboard_hub.registry.reviews.rules import common, together, within
from pegboard_hub.registry.reviews.texts import check_long

NOTHING = Access()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer decides.

    Attributes:
        version: of the review that the reviewer saw.
        approves: else it is rejected.
        why: wanted of a rejection.
        access: what is approved, at most what is requested or granted already.
        conditions: under which.
        held: items of the checklist that hold.
    """

    version: int
    approves: bool
    why: str = ""
    access: Access = NOTHING
    conditions: str = ""
    held: frozenset[str] = frozenset()


async def decide(
    changing: Changing, rights: Rights, person: PersonFacts, review_id: str, verdict: Verdict
) -> Access | None:
    """Decide on a review; with the last approval its server gets what all of them approved."""
    review, server = await decidable(changing, rights, person, review_id, verdict.version)
    if verdict.approves:
        beside = await store.round_of(changing.connection, server)
        values = _approval(rights, review, server, verdict, beside)
    else:
        values = _rejection(verdict)
    await _keep(changing, review, {**values, "decided_at_ms": changing.now_ms, "decided_by": person.sub})
    await _note(changing, person, review, values)
    return await _conclude(changing, review.server, Actor(person.sub)) if verdict.approves else None


async def _note(changing: Changing, person: PersonFacts, review: Review, values: Mapping[str, Any]) -> None:
    action = "approve" if values["state"] is State.APPROVED else "reject"
    told = {f"{review.kind} review {review.id}": (State.OPEN.value, values["state"].value)}
    await changing.note(review.server, Actor(person.sub), action, str(values["outcome_why"]), told)


async def _conclude(changing: Changing, name: str, actor: Actor) -> Access | None:
    """Let what all reviews of the subject approved hold, once all of them have; gives it, and None before.

    A submitted release is approved by it and not deployed: until the pipeline has it take the calls, the one that
    serves is open to nobody to whom it was not.
    """
    server = changing.server(name)
    found = await store.round_of(changing.connection, server)
    granted = granted_by(found, server)
    if granted is None:
        return None
    values: dict[str, Any] = {"reason": reason_of(found.values())}
    if server.lifecycle in (Lifecycle.IN_REVIEW, Lifecycle.APPROVED, Lifecycle.LIVE):
        values["lifecycle"] = Lifecycle.APPROVED
    waiting = server.waiting
    if waiting is not None:
        await servers.approve_release(changing.connection, name, waiting.digest, changing.now_ms)
    deploys = not server.submitted
    widens = deploys or server.release is None or waiting is None
    await changing.apply(
        Change(
            name,
            actor,
            store.GRANT,
            str(values["reason"]),
            values=values,
            granted=granted if widens else common(server.granted, granted),
            release=waiting if deploys else None,
            waits_no_more=waiting is not None,
        )
    )
    return granted


async def put_down(changing: Changing, rights: Rights, person: PersonFacts, review_id: str, verdict: Verdict) -> None:
    """Keep everything that somebody has filled in, before a decision."""
    review, server = await decidable(changing, rights, person, review_id, verdict.version)
    values = {
        "checklist": {item: item in verdict.held for item in rights.checklist(review)},
        "granted": _asked_at_most(review, server, verdict.access)._asdict(),
        "conditions": check_long("conditions", verdict.conditions, empty=True),
        "outcome_why": check_long("why", verdict.why, empty=True),
    }
    await _keep(changing, review, values)


async def decidable(
    changing: Changing, rights: Rights, person: PersonFacts, review_id: str, version: int | None
) -> tuple[Review, RegisteredServer]:
    """A review that this person may decide on now, as they saw it, with its server.

    Raises:
        UnknownReview: there is no such review.
        NotYours: the person does not decide on it.
        ReviewConflict: it was decided, superseded or changed meanwhile.
    """
    review = await look_up(changing.connection, review_id)
    server = changing.server(review.server)
    refused = rights.why_not(person, review, await store.authors_of(changing.connection, server))
    if refused is not None:
        raise refused
    _check_open(review, server)
    if version is not None and version != review.version:
        raise ReviewConflict("Somebody changed this review since you opened it.")
    return review, server


def _check_open(review: Review, server: RegisteredServer) -> None:
    if review.state is State.SUPERSEDED or (review.open and review.subject != subject_of(server)):
        raise ReviewConflict("What this review looks at is not asked for any more: something else is.")
    check_asked(server)
    if not review.open:
        raise ReviewConflict(f"{review.decided_by} has {review.state} it already.")


def check_asked(server: RegisteredServer) -> None:
    """Check that somebody asks for the server now.

    Raises:
        ReviewConflict: nobody does.
    """
    if server.lifecycle is Lifecycle.RETIRED:
        raise ReviewConflict("The server is retired: its owners may bring it back, and then it goes on.")
    if server.lifecycle is Lifecycle.DRAFT:
        raise ReviewConflict("The server is a draft again: its owners submit it anew.")


def _approval(
    rights: Rights, review: Review, server: RegisteredServer, verdict: Verdict, beside: Mapping[Kind, Review]
) -> dict[str, Any]:
    access = _asked_at_most(review, server, verdict.access)
    if reaches_somebody(together(review.subject.requested, server.granted)) and not reaches_somebody(access):
        mend = "Tick a group and a surface, or a service, or else reject it."
        fault = "nobody would get in: a person needs a group and a surface, and a bot a channel"
        raise ChangeRefused("access", fault, mend)
    check_shares(beside, server, access)
    items = rights.checklist(review)
    if wanting := [item for item in items if item not in verdict.held]:
        raise ChangeRefused("checklist", f"not ticked: {'; '.join(wanting)}", "Tick what holds, or reject it.")
    return {
        "state": State.APPROVED,
        "outcome_why": check_long("why", verdict.why, empty=True),
        "granted": access._asdict(),
        "conditions": check_long("conditions", verdict.conditions, empty=True),
        "checklist": dict.fromkeys(items, True),
    }


def _rejection(verdict: Verdict) -> dict[str, Any]:
    # What was put down for later is no part of it.
    return {
        "state": State.REJECTED,
        "outcome_why": check_long("why", verdict.why),
        "granted": None,
        "conditions": "",
    }


def _asked_at_most(review: Review, server: RegisteredServer, access: Access) -> Access:
    """An access in order, which is no more than what is asked for or granted already.

    Raises:
        ChangeRefused: it is more.
    """
    access = in_order(access)
    if not within(access, together(review.subject.requested, server.granted)):
        mend = "Approve what is asked for, or less. Its owners can ask for more."
        raise ChangeRefused("access", "it is more than what is asked for", mend)
    return access


async def _keep(changing: Changing, review: Review, values: Mapping[str, Any]) -> None:
    if not await store.keep(changing.connection, review, values):
        raise ReviewConflict("Somebody changed this review in this very moment.")
