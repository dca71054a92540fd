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
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar
from zlib import compress, decompress

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.approval import OPEN, State
from pegboard_hub.approvals.deciding import AGAIN, LONGEST_WHY
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Event, Reader, Verdict
from pegboard_hub.approvals.model import Request as Asked
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.approvals_view import STATUSES
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.pages.approvals.inbox import digest_of, following, is_part, told_already, unchanged
from pegboard_hub.web.pages.approvals.looking import (
    FINAL,
    PATH,
    STATE_WORDS,
    ActionView,
    actions_of,
    asks_of,
    brief_of,
    decider_of,
    is_current,
    left_words,
    own_words,
    reader_of,
    who_asks,
    with_id,
)
from pegboard_hub.web.pages.approvals.strange import Piece
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import Framer, with_query
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated, with_filled_in
from pegboard_hub.web.parts import Parts

T = TypeVar("T")

ONE: Final = f"{PATH}/{{id}}"

DONE: Final = {
    "approved": "Approved. It runs once, when the same call is made again; agents are told to do so.",
    "rejected": "Rejected. It does not run, and whoever asked is told why.",
    "some": "Decided: what you ticked may run once, the others do not run. Whoever asked is told why.",
    "withdrawn": "Taken back. It does not run.",
    "again": "Asked for again. Once it is approved, have the same call made again.",
}
"""What was done, by the word in the address."""

TONES: Final[Mapping[State, str]] = {
    State.REQUESTED: "open",
    State.APPROVED: "open",
    State.CLAIMED: "open",
    State.DONE: "allowed",
    State.UNKNOWN: "denied",
    State.FAILED: "denied",
    State.REJECTED: "denied",
}

DOORS: Final = {
    "server": "",
    "form": "in their client’s form",
    "page": "on these pages",
    "api": "with their token",
    "ledger": "",
    "clock": "",
}

STEPS: Final[Mapping[str, tuple[str, bool]]] = {
    "": ("Asked for", True),
    State.REQUESTED: ("Asked for", True),
    State.APPROVED: ("Approved", True),
    State.REJECTED: ("Rejected", True),
    State.EXPIRED: ("Expired", False),
    State.WITHDRAWN: ("Taken back", True),
    State.CLAIMED: ("Begun", False),
    State.DONE: ("Done", False),
    State.FAILED: ("Failed", False),
    State.UNKNOWN: ("Outcome unknown", False),
}
"""What happened, by the state after it, and whether it was a person's doing; first when it was asked for."""

_SEEN, _TICK = "seen:", "tick:"
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Other:
    """Another action of the same batch."""

    request: Asked
    word: str
    brief: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One step of a request's life, in words."""

    at_ms: int
    words: str
    who: str
    door: str
    why: str


@dataclass(frozen=True, slots=True)
class PointView:
    """The point of a request, which stands before everything that may be long.

    Attributes:
        who: whose call it is; `own` whether that is who looks.
        asks: who is to say yes, in words.
        tools: which are to run.
        reasons: why a yes is needed; `sources` who wants that.
        ways: from where it came: surface, client, and who acts for the person.
        expires_ms: when the first of them expires; `left` how long that is.
        current: whether the release that it was asked for is still the one that runs.
    """

    who: str
    own: bool
    asks: str
    tools: tuple[str, ...]
    reasons: tuple[str, ...]
    sources: tuple[str, ...]
    ways: tuple[tuple[str, str, str], ...]
    open: bool
    expires_ms: int
    left: str
    current: bool


@dataclass(frozen=True, slots=True)
class DecideView(PointView):
    """What somebody decides on.

    Attributes:
        path: of the page.
        actions: everything that waits for them here.
        others: what else was asked for together with it.
        recent: whether they have just said who they are; `again` leads to that.
        why, read: what was filled in.
        alone: whether it is looked at without its batch.
        calls: how many calls the actions are of; where there are several, some can be left for later.
    """

    path: str = ""
    actions: tuple[ActionView, ...] = ()
    others: tuple[Other, ...] = ()
    recent: bool = False
    again: str = ""
    why: str = ""
    read: bool = False
    alone: bool = False
    calls: int = 1
    longest_why: int = LONGEST_WHY
    done: str = ""
    problem: Problem | None = None

    @property
    def shown(self) -> tuple[ActionView, ...]:
        """Those that stand on the page as a whole, and so can be decided on."""
        return tuple(action for action in self.actions if not action.left_out)

    @property
    def hidden(self) -> int:
        """How many do not."""
        return len(self.actions) - len(self.shown)

    @property
    def folded(self) -> int:
        """Characters that are folded."""
        return sum(action.folded for action in self.actions)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the texts of all of them."""
        return tuple(dict.fromkeys(note for action in self.actions for note in action.notes))


@dataclass(frozen=True, slots=True)
class LiveView(PointView):
    """How one request stands.

    Attributes:
        headline: in words.
        hint: what whoever looks may do now; empty where nothing.
        decides, withdraws, again: what whoever looks may do.
        ledger: where the call is that ran it; empty before.
        follows: whether it may still change.
        here: where it is asked for again; it says what is known of it.
    """

    action: ActionView
    headline: str
    hint: str
    tone: str
    decides: bool
    withdraws: bool
    again: bool
    ledger: str
    follows: bool
    here: str
    events: tuple[Told, ...]
    others: tuple[Other, ...]
    done: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ActView(PointView):
    """Something that whose call it is may do, before it is done."""

    action: ActionView
    action_path: str
    words: str
    buttons: tuple[tuple[str, str], ...]
    asks_why: bool = False
    why: str = ""
    longest_why: int = LONGEST_WHY
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A request as somebody may see it, with its batch."""

    reader: Reader
    request: Asked
    beside: tuple[Asked, ...]

    @property
    def batch(self) -> tuple[Asked, ...]:
        """All of it; this one comes first."""
        return (self.request, *self.beside)


def add_request_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(ONE)
    async def look(request: Request, session: HereSession, id: str) -> Response:
        found = await find(parts, session, id)
        done = request.query_params.get("done", "")
        if not _decidable(parts, found, alone=_alone(request)):
            return see_other(with_query(f"{PATH}/{found.request.id}/live", [("done", done)]))
        form = _kept(parts, request, session, found.request.id)
        return await deciding(request, session, found, form, done=DONE.get(done, ""))

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

    @router.post(f"{ONE}/decide")
    async def decide(request: Request, session: HereSession, id: str) -> Response:
        form = await framer.browsers.form(request)
        # What the login says now: who has left a group a moment ago decides no more.
        session = await told_now(parts, request, session, at_most_s=0)
        found = await find(parts, session, id)
        then = _kept_path(parts, session, found.request.id, form)
        session = recently_authenticated(request, session, then)
        try:
            verdicts = await asyncio.to_thread(_verdicts, parts, found, form)
            decided = await parts.approvals.decide(decider_of(session), verdicts, form.get("why", ""))
        except ApprovalRefused as error:
            problem = problem_of(error)
            found = await find(parts, session, id)
            if _decidable(parts, found, alone=_ALONE in form):
                return await deciding(request, session, found, form, problem)
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

    @router.get(f"{ONE}/withdraw")
    @router.get(f"{ONE}/again")
    async def before(request: Request, session: HereSession, id: str) -> Response:
        found = await find(parts, session, id)
        what = request.url.path.rpartition("/")[2]
        if not _may(what, found):
            return see_other(f"{PATH}/{found.request.id}")
        return await acting(request, found, what)

    @router.post(f"{ONE}/withdraw")
    async def withdraw(request: Request, session: HereSession, id: str) -> Response:
        form = await framer.browsers.form(request)
        found = await find(parts, session, id)
        ids = [each.id for each in _open_ones(found)] if form.get("which") == "all" else [found.request.id]
        try:
            await parts.approvals.withdraw(session.facts.sub, ids, form.get("why", ""))
        except ApprovalRefused as error:
            return await acting(request, found, "withdraw", problem_of(error), form.get("why", ""))
        return see_other(f"{PATH}/{found.request.id}/live?done=withdrawn")

    @router.post(f"{ONE}/again")
    async def again(request: Request, session: HereSession, id: str) -> Response:
        await framer.browsers.form(request)
        found = await find(parts, session, id)
        try:
            fresh = await parts.approvals.again(session.facts.sub, found.request.id)
        except ApprovalRefused as error:
            return await acting(request, found, "again", problem_of(error))
        return see_other(f"{PATH}/{fresh.id}?done=again")

    async def deciding(
        request: Request, session: Session, found: Found, form: Form, problem: Problem | None = None, done: str = ""
    ) -> Response:
        # A page may hold a megabyte of strangers' text.
        alone = _alone(request) or _ALONE in form
        view = await asyncio.to_thread(decide_view, parts, session, found, form, alone=alone)
        view = replace(view, problem=problem, done=done)
        frame = framer.frame(request, PATH, "Waits for your yes")
        return framer.answer("approval_decide.html", frame, view, problem.status if problem else 200)

    async def acting(
        request: Request, found: Found, what: str, problem: Problem | None = None, why: str = ""
    ) -> Response:
        title, view = await asyncio.to_thread(act_view, parts, found, what)
        view = replace(view, problem=problem, why=why)
        frame = framer.frame(request, PATH, title)
        return framer.answer("approval_act.html", frame, view, problem.status if problem else 200)


async def find(parts: Parts, session: Session, id: str) -> Found:
    """A request with its batch, for whoever is signed in.

    Raises:
        Refused: it is not there for them: that it does not exist is answered in the same words.
    """
    reader = reader_of(parts, session)
    request = await parts.approvals.find(reader, id) if _ID.fullmatch(id) else None
    if request is None:
        raise _no_request()
    return Found(reader, request, tuple(await parts.approvals.beside(reader, request)))


def decide_view(parts: Parts, session: Session, found: Found, form: Form, *, alone: bool) -> DecideView:
    """What somebody decides on, with what they have filled in."""
    pending = _decidable(parts, found, alone=alone)
    ticked = [name.removeprefix(_TICK) for name in form if name.startswith(_TICK)]
    path = f"{PATH}/{found.request.id}"
    return DecideView(
        **_point(parts, found, pending),
        path=path,
        actions=actions_of(parts, pending, ticked),
        others=_others(found, [each for each in found.batch if each not in pending]),
        recent=is_recent(session),
        again=sign_in_again_path(with_query(path, [(_ALONE, "1" if alone else "")])),
        calls=len({_call_of(each) for each in pending}),
        why=form.get("why", ""),
        read="read" in form,
        alone=alone,
    )


def live_view(parts: Parts, found: Found) -> LiveView:
    """How a request stands, for one who may see it."""
    request, reader = found.request, found.reader
    own = reader.sub == request.person
    decides = bool(_decidable(parts, found, alone=True))
    point = _point(parts, found, [request])
    others = _others(found, found.beside)
    follows = any(each.state not in FINAL for each in found.batch)
    facts = [[each.id, each.state, each.why] for each in found.batch] + [point["left"], len(request.events), decides]
    [action] = actions_of(parts, [request])
    return LiveView(
        **point,
        action=action,
        headline=_headline(parts, found, decides),
        hint=_hint(request, own, point["current"]),
        tone=TONES.get(request.state, ""),
        decides=decides,
        withdraws=_may("withdraw", found),
        again=_may("again", found),
        ledger=_record(request) if request.call_id and (own or reader.sees_all) else "",
        follows=follows,
        here=with_query(f"{PATH}/{request.id}/live", [("seen", digest_of(facts))]),
        events=tuple(_told(each) for each in request.events),
        others=others,
    )


def act_view(parts: Parts, found: Found, what: str) -> tuple[str, ActView]:
    """What taking back or asking again would do, before it is done; with its title."""
    path = f"{PATH}/{found.request.id}/{what}"
    [action] = actions_of(parts, [found.request])
    point = _point(parts, found, [found.request])
    if what == "again":
        words = "A new request is made for exactly this, and waits for a yes. Nothing runs by it."
        if found.request.state is State.UNKNOWN:
            words = f"How it ended is not known: it may have happened. Look first. {words}"
        return "Ask again", ActView(
            **point, action=action, action_path=path, words=words, buttons=(("one", "Ask again"),)
        )
    many = len(_open_ones(found))
    buttons = [("one", "Take it back")]
    if many > 1:
        buttons.append(("all", f"Take back all {many} that were asked for together"))
    words = "It does not run then. Who was to decide sees that you took it back."
    return "Take it back", ActView(
        **point, action=action, action_path=path, words=words, buttons=tuple(buttons), asks_why=True
    )


def problem_of(error: ApprovalRefused) -> Problem:
    """Why nothing was done, for the page with the form.

    Raises:
        Refused: it is not there for who asked.
    """
    if error.code == "unknown":
        raise _no_request() from error
    return Problem(STATUSES.get(error.code, 422), f"Nothing was done. {error.message}", error.mend)


def _no_request() -> Refused:
    """The one answer for what does not exist, and for what somebody may not know of."""
    message = "There is no such request for you: it does not exist, or it is for somebody else."
    return refuse(404, "not_found", message, "Sign in as the person whom it is for, or look at what waits for you.")


_ALONE = "alone"


def _alone(request: Request) -> bool:
    return request.query_params.get(_ALONE) == "1"


def _decidable(parts: Parts, found: Found, *, alone: bool) -> list[Asked]:
    """What of a batch waits for whoever looks, that of the same call first; nothing where this one does not."""
    mine = [
        each
        for each in (found.batch[:1] if alone else sorted(found.batch, key=partial(_place, _call_of(found.request))))
        if each.state is State.REQUESTED and parts.approvals.may_decide(found.reader, each)
    ]
    return mine if found.request in mine else []


def _call_of(request: Asked) -> tuple[str, int]:
    """What the actions of one call have in common: they are asked for at once."""
    return request.tool, request.requested_at_ms


def _place(call: tuple[str, int], request: Asked) -> tuple[bool, int, str]:
    """Where it stands among those of its batch, on a page of one that came of `call`."""
    return _call_of(request) != call, request.requested_at_ms, request.id


def _open_ones(found: Found) -> list[Asked]:
    return [each for each in found.batch if each.state in OPEN and each.person == found.reader.sub]


def _may(what: str, found: Found) -> bool:
    states = {"withdraw": OPEN, "again": AGAIN}[what]
    return found.request.person == found.reader.sub and found.request.state in states


def _once(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _point(parts: Parts, found: Found, requests: Sequence[Asked]) -> dict[str, Any]:
    request = found.request
    expires_ms = min((each.expires_at_ms for each in requests), default=request.expires_at_ms)
    return {
        "who": who_asks(request),
        "own": found.reader.sub == request.person,
        "asks": asks_of(parts, request, found.reader.sub),
        "tools": _once(each.tool for each in requests),
        "reasons": _once(each.requirement.why for each in requests if each.requirement.why),
        "sources": _once(own_words(each.requirement) for each in requests),
        "ways": _once((each.surface, each.client, each.act) for each in requests),
        "open": any(each.state in OPEN for each in requests),
        "expires_ms": expires_ms,
        "left": left_words(expires_ms),
        "current": is_current(parts, request),
    }


def _others(found: Found, requests: Iterable[Asked]) -> tuple[Other, ...]:
    ordered = sorted(requests, key=partial(_place, _call_of(found.request)))
    return tuple(Other(each, STATE_WORDS[each.state], brief_of(each)) for each in ordered)


def _record(request: Asked) -> str:
    """Where the ledger has the call that ran it."""
    return with_query("/ledger/call", [("id", request.call_id), ("server", request.server)])


def _headline(parts: Parts, found: Found, decides: bool) -> str:
    request = found.request
    match request.state:
        case State.REQUESTED:
            return f"Waiting for {'your yes' if decides else asks_of(parts, request, found.reader.sub)}"
        case State.APPROVED | State.REJECTED if request.decided_by:
            by = "you" if request.decided_by == found.reader.sub else shown(request.decided_by_name)
            return f"{STATE_WORDS[request.state].capitalize()} by {by}"
        case state:
            return STATE_WORDS[state].capitalize()


def _hint(request: Asked, own: bool, current: bool) -> str:
    """What whose call it is does now."""
    if not own:
        return ""
    if request.state is State.APPROVED and not current:
        return "Its server runs another release now, for which this yes is not: make the call anew."
    if request.state is State.APPROVED:
        return "Have your agent or command make the same call again, with the same arguments: then it runs."
    if request.state is State.REQUESTED:
        return "You may close this page. Once it is approved, have the same call made again."
    return ""


def _told(event: Event) -> Told:
    words, by = STEPS["" if event.before is None else event.after]
    if event.before is event.after:
        words, by = "What it would do was told anew", False
    who = with_id(event.who_name, event.who) if by else ""
    return Told(event.at_ms, words, who, DOORS.get(event.door, "") if by else "", event.why)


def _verdicts(parts: Parts, found: Found, form: Form) -> list[Verdict]:
    """What a form decides: on those that stood on its page, and on nothing else.

    Raises:
        ApprovalRefused: it decides on nothing, or on what was folded and not read.
    """
    seen = {name.removeprefix(_SEEN): digest for name, digest in form.items() if name.startswith(_SEEN)}
    verdict = form.get("verdict", "")
    if verdict not in ("all", "ticked", "some", "none") or not seen.keys() <= {each.id for each in found.batch}:
        raise ApprovalRefused("invalid", "verdict", "The form decides on nothing here.", "Open the page again.")
    ticks = verdict in ("ticked", "some")
    chosen = {id for id in seen if verdict == "all" or (ticks and f"{_TICK}{id}" in form)}
    if ticks and not chosen:
        message = "Nothing is ticked."
        raise ApprovalRefused("invalid", "tick", message, "Tick what may run, or reject all of them.")
    approved = [each for each in found.batch if each.id in chosen]
    if "read" not in form and any(actions_of(parts, [each])[0].folded for each in approved):
        message = "Some of what you approve is folded."
        raise ApprovalRefused("invalid", "read", message, "Unfold it, read it, and say that you did.")
    return [Verdict(id, digest, id in chosen) for id, digest in seen.items() if id in chosen or verdict != "some"]


def _kept_path(parts: Parts, session: Session, id: str, form: Form) -> str:
    """The page with what was filled in, so that signing in again loses none of it. It is signed for this person: a
    link that somebody else made fills in nothing."""
    fields = {name: value for name, value in form.items() if value and _is_kept(name)}
    if not fields:
        return f"{PATH}/{id}"
    kept = urlsafe_b64encode(compress(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))).decode()
    return with_filled_in(f"{PATH}/{id}", [("kept", kept), ("by", _signed(parts, session, id, kept))])


def _kept(parts: Parts, request: Request, session: Session, id: str) -> Form:
    """What was filled in before signing in again."""
    kept, by = request.query_params.get("kept", ""), request.query_params.get("by", "")
    if not kept or not hmac.compare_digest(by.encode(), _signed(parts, session, id, kept).encode()):
        return {}
    fields: Form = json.loads(decompress(urlsafe_b64decode(kept)))
    return fields


def _is_kept(name: str) -> bool:
    return name in ("why", _ALONE) or name.startswith(_TICK)


def _signed(parts: Parts, session: Session, id: str, kept: str) -> str:
    return parts.cursors.write("", [PATH, id, session.facts.sub, kept])
