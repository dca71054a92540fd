"""What people do about requests: decide, withdraw, ask again. Each is one transaction, all of it or nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import OPEN, Requirement, State
from pegboard.core.text import hidden_in
from pegboard_hub.approvals import asking, store
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Decider, Door, Reader, Request, Verdict
from pegboard_hub.approvals.rights import may_decide, sees
from pegboard_hub.approvals.store import Step

LONGEST_WHY: Final = 1000
MOST_AT_ONCE: Final = 100

AGAIN: Final = frozenset({State.UNKNOWN, State.FAILED, State.EXPIRED, State.REJECTED, State.WITHDRAWN})
"""States after which the person may ask for the same once more without making the call first."""


async def decide(
    db: AsyncConnection, by: Decider, verdicts: Sequence[Verdict], why: str, now_ms: int
) -> list[Request]:
    """Approve and reject, in the order of the verdicts.

    Raises:
        ApprovalRefused: one is not theirs, was decided, expired, or does not show what they looked at any more.
    """
    found = await store.by_ids(db, [verdict.id for verdict in verdicts])
    owners = await store.owner_of(db, {request.server for request in found.values()})
    chosen: dict[State, list[Request]] = {State.APPROVED: [], State.REJECTED: []}
    for verdict in verdicts:
        request = _decidable(found.get(verdict.id), by, owners, now_ms)
        if request.shown_digest != verdict.shown_digest:
            message = f"What {request.tool} would do changed since you looked at it; nothing was decided."
            raise ApprovalRefused("changed", "shown_digest", message, "Look at it again, and decide then.")
        chosen[State.APPROVED if verdict.approve else State.REJECTED].append(request)
    decided: dict[str, Any] = {"decided_at_ms": now_ms, "decided_by": by.sub, "decided_by_name": by.name, "why": why}
    step = Step(now_ms, "page", by.sub, by.name, why)
    told: dict[str, Request] = {}
    for after, requests in chosen.items():
        ends: dict[str, Any] = {"ended_at_ms": now_ms} if after is State.REJECTED else {}
        await store.move(db, requests, State.REQUESTED, after, step, **decided, **ends)
        told |= {request.id: replace(request, state=after, **decided, **ends) for request in requests}
    return [told[verdict.id] for verdict in verdicts]


def check_verdicts(verdicts: Sequence[Verdict], why: str) -> str:
    """The reason as it is kept.

    Raises:
        ApprovalRefused: nothing or too much is decided at once, one is decided twice, or the reason is missing.
    """
    if not 0 < len(verdicts) <= MOST_AT_ONCE:
        raise ApprovalRefused("invalid", "ids", "Nothing is chosen, or too much.", f"Choose 1 to {MOST_AT_ONCE}.")
    if len({verdict.id for verdict in verdicts}) < len(verdicts):
        raise ApprovalRefused("invalid", "ids", "One request is decided twice.", "Decide each once.")
    why = check_why(why)
    if not why and not all(verdict.approve for verdict in verdicts):
        raise ApprovalRefused("invalid", "why", "A rejection needs a reason.", "Say in a sentence why not.")
    return why


def check_why(why: str) -> str:
    """A reason as it is kept; it may be empty.

    Raises:
        ApprovalRefused: it is too long, or hides something.
    """
    why = unicodedata.normalize("NFC", why.replace("\r\n", "\n").strip())
    if len(why) > LONGEST_WHY:
        raise ApprovalRefused(
            "invalid", "why", f"The reason has {len(why)} characters.", f"Use {LONGEST_WHY} at most."
        )
    if hidden := hidden_in(why, lines=True):
        raise ApprovalRefused("invalid", "why", f"The reason {hidden}.", "Write plain text.")
    return why


def _decidable(request: Request | None, by: Decider, owners: Mapping[str, str], now_ms: int) -> Request:
    reader = Reader(by.sub, by.groups)
    owner = owners.get(request.server, "") if request is not None else ""
    if request is None or not sees(reader, owner, request):
        raise unknown()
    if not may_decide(by.sub, by.groups, owner, request):
        if request.person == by.sub:
            message = "Nobody decides on what they asked for themselves."
            raise ApprovalRefused("own_request", "id", message, "Ask one of those who may.")
        raise ApprovalRefused("not_yours", "id", "This is for others to decide.", "Ask one of them.")
    if request.state is not State.REQUESTED:
        message = f"It is {request.state} already; nothing was decided."
        raise ApprovalRefused("already_decided", "id", message, "Look at it again.")
    if asking.is_over(request, now_ms):
        raise ApprovalRefused("expired", "id", "Its time is over; nothing was decided.", "Have the call made again.")
    return request


async def withdraw(
    db: AsyncConnection, sub: str, ids: Sequence[str], why: str, door: Door, now_ms: int
) -> list[Request]:
    """Take back what somebody asked for themselves and nothing runs of yet.

    Raises:
        ApprovalRefused: one is somebody else's, or is over or running.
    """
    found = await store.by_ids(db, ids)
    told: list[Request] = []
    for id_ in dict.fromkeys(ids):
        request = found.get(id_)
        if request is None or request.person != sub:
            raise unknown()
        if request.state not in OPEN:
            message = f"It is {request.state} already, so there is nothing to withdraw."
            raise ApprovalRefused("already_decided", "id", message, "Look at it again.")
        ends: dict[str, Any] = {"ended_at_ms": now_ms, "why": why}
        step = Step(now_ms, door, sub, request.person_name, why)
        await store.move(db, [request], request.state, State.WITHDRAWN, step, held=None, **ends)
        told.append(replace(request, state=State.WITHDRAWN, **ends))
    return told


async def again(
    db: AsyncConnection, sub: str, id_: str, release: str | None, registered: Requirement | None, now_ms: int
) -> tuple[Request, bool]:
    """A new request for the same action, by the person whose it was; and whether it is new, or was there already.

    Args:
        release: of the server now; None where none is deployed.
        registered: what the registry requires of the tool now; None where it requires nothing.

    Raises:
        ApprovalRefused: it is somebody else's, has not ended, its server has another release, or there are too many.
    """
    old = (await store.by_ids(db, [id_])).get(id_)
    if old is None or old.person != sub:
        raise unknown()
    if old.state not in AGAIN or old.arguments is None:
        message = f"It is {old.state}, so there is nothing to ask for again."
        raise ApprovalRefused("not_ended", "id", message, "Make the call anew instead.")
    if old.release != release or registered not in (None, old.requirement):
        message = f"{old.server} has another release since, or others decide: it may be something else now."
        raise ApprovalRefused("server_changed", "id", message, "Make the call anew instead.")
    held = (await store.held(db, [old.binding])).get(old.binding)
    if held is not None and held.id != old.id and not asking.is_over(held, now_ms):
        return held, False
    await asking.check_room(db, sub, old.server, 1, now_ms)
    if held is not None:
        await asking.end(db, held, now_ms)
    new_id = asking.new_ids(1, now_ms)[0]
    fresh = replace(
        old,
        id=new_id,
        batch=new_id,
        state=State.REQUESTED,
        requested_at_ms=now_ms,
        expires_at_ms=now_ms + old.requirement.expires_s * 1000,
        shown_at_ms=now_ms,
        decided_at_ms=None,
        decided_by="",
        decided_by_name="",
        why="",
        claimed_at_ms=None,
        call_id="",
        ended_at_ms=None,
        reminded_at_ms=None,
        events=(),
    )
    step = Step(now_ms, "page", sub, old.person_name, f"asked for again after {old.id}")
    await store.add(db, fresh, "", step)
    return fresh, True


def unknown() -> ApprovalRefused:
    """The same for what does not exist and for what one may not know of."""
    message = "There is no such request for you: it does not exist, or is not yours to know of."
    return ApprovalRefused("unknown", "id", message, "Look at the list of those that are.")
