"""What the pages of one request show: deciding on it, how it stands, and what whose call it is may do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from pegboard.core.approval import OPEN, State
from pegboard_hub.approvals.deciding import LONGEST_WHY
from pegboard_hub.approvals.model import Event
from pegboard_hub.approvals.model import Request as Asked
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.pages.approvals.answers import ALONE, TICK
from pegboard_hub.web.pages.approvals.batch import Found, call_of, decidable, may_do, open_ones, place_among
from pegboard_hub.web.pages.approvals.inbox import digest_of
from pegboard_hub.web.pages.approvals.looking import (
    FINAL,
    PATH,
    STATE_WORDS,
    ActionView,
    actions_of,
    asks_of,
    brief_of,
    is_current,
    left_words,
    own_words,
    who_asks,
    with_id,
)
from pegboard_hub.web.pages.approvals.strange import Piece
from pegboard_hub.web.pages.browser import Form
from pegboard_hub.web.pages.frame import with_query
from pegboard_hub.web.pages.onward import sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent
from pegboard_hub.web.parts import Parts

T = TypeVar("T")

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


def decide_view(parts: Parts, session: Session, found: Found, form: Form, *, alone: bool) -> DecideView:
    """What somebody decides on, with what they have filled in."""
    pending = decidable(parts, found, alone=alone)
    ticked = [name.removeprefix(TICK) for name in form if name.startswith(TICK)]
    path = f"{PATH}/{found.request.id}"
    return DecideView(
        **_point(parts, found, pending),
        path=path,
        actions=actions_of(parts, pending, ticked),
        others=_others(found, [each for each in found.batch if each not in pending]),
        recent=is_recent(session),
        again=sign_in_again_path(with_query(path, [(ALONE, "1" if alone else "")])),
        calls=len({call_of(each) for each in pending}),
        why=form.get("why", ""),
        read="read" in form,
        alone=alone,
    )


def live_view(parts: Parts, found: Found) -> LiveView:
    """How a request stands, for one who may see it."""
    request, reader = found.request, found.reader
    own = reader.sub == request.person
    decides = bool(decidable(parts, found, alone=True))
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
        withdraws=may_do("withdraw", found),
        again=may_do("again", found),
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
    many = len(open_ones(found))
    buttons = [("one", "Take it back")]
    if many > 1:
        buttons.append(("all", f"Take back all {many} that were asked for together"))
    words = "It does not run then. Who was to decide sees that you took it back."
    return "Take it back", ActView(
        **point, action=action, action_path=path, words=words, buttons=tuple(buttons), asks_why=True
    )


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
    ordered = sorted(requests, key=partial(place_among, call_of(found.request)))
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
