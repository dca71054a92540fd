"""What the page on security shows of approvals that the registry requires: which, why, since when, and the form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pegboard.core.approval import CALLER, OWNER, Requirement
from pegboard.core.required import asked
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.requiring.model import Event, Standing
from pegboard_hub.requiring.notes import notes
from pegboard_hub.requiring.service import LONGEST_REASON, Who
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.impact_view import known_people
from pegboard_hub.web.knowing import looks_after
from pegboard_hub.web.pages.browser import Form
from pegboard_hub.web.pages.frame import Frame
from pegboard_hub.web.pages.onward import sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent
from pegboard_hub.web.parts import Parts

GROUP = "group"
PLACE = "approvals"
"""Where on the page they are, for addresses that lead there."""

SHOWN_EVENTS = 20

WHO = {OWNER: "its owners", CALLER: "the person whose call it is", GROUP: "a group, named below"}
"""Who can be asked; of a group security and operators alone decide."""

TIMES = {"900": "15 minutes", "3600": "an hour", "14400": "four hours", "86400": "a day", "604800": "a week"}
"""How long a request is good, in seconds."""

DONE = {
    "required": "Required. Calls wait for an approval within two seconds, wherever they come from.",
    "lifted": "Lifted. Within two seconds only what the tool’s own code asks for holds.",
}

_BLANK = {"tool": "", "by": OWNER, "group": "", "own": "", "expires_s": "3600", "why": ""}


@dataclass(frozen=True, slots=True)
class RequiredRow:
    """One tool that needs an approval.

    Attributes:
        asked: who is asked, in words.
        good_for: how long a request is good, in words.
        notes: what to look at, a sentence each.
        lifts: whether whoever is signed in may lift it.
    """

    standing: Standing
    asked: str
    good_for: str
    notes: tuple[str, ...]
    lifts: bool


@dataclass(frozen=True, slots=True)
class EventRow:
    """One entry of the history, with who was asked before and since, in words."""

    event: Event
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RequiredView:
    """The section.

    Attributes:
        path: of the page; forms go to addresses beside it.
        may: whether whoever is signed in requires and lifts here.
        recent: whether they have just proved who they are, so that they may lift; `again` leads to that.
        tools: that can be named.
        who: who can be asked, in words.
        form: as it was sent, or blank.
    """

    path: str
    rows: tuple[RequiredRow, ...]
    history: tuple[EventRow, ...]
    may: bool
    recent: bool
    again: str
    tools: tuple[str, ...]
    who: tuple[tuple[str, str], ...]
    form: Form
    times: tuple[tuple[str, str], ...] = tuple(TIMES.items())
    longest_why: int = LONGEST_REASON
    done: str = ""
    problem: Problem | None = None


async def required_view(parts: Parts, frame: Frame, server: RegisteredServer, done: str = "") -> RequiredView | None:
    """The section for whoever looks; None for those who do not look after the server."""
    if not looks_after(parts, frame.caller, server):
        return None
    here = f"/servers/{server.name}"
    session = _acting(frame)
    who = person(session) if session else None
    may = who is not None and parts.requiring.may(who, server)
    governs = who is not None and parts.requiring.governs(who)
    people, exhaustive = await known_people(parts)
    standing = [Standing(server, tool, required) for tool, required in sorted(server.approvals.items())]
    rows = tuple(
        RequiredRow(
            each,
            asked(each.requirement, server.owner),
            good_for(each.requirement.expires_s),
            tuple(notes(each, people, exhaustive=exhaustive)),
            may and (governs or each.required.role == "owner"),
        )
        for each in standing
    )
    history = await parts.requiring.history_of(server, SHOWN_EVENTS)
    return RequiredView(
        path=here,
        rows=rows,
        history=tuple(EventRow(each, _asked(each.before, server), _asked(each.after, server)) for each in history),
        may=may,
        recent=session is not None and is_recent(session),
        again=sign_in_again_path(f"{here}/security"),
        tools=tuple(_tools(server)),
        who=tuple((by, words) for by, words in WHO.items() if governs or by != GROUP),
        form=dict(_BLANK),
        done=DONE.get(done, ""),
    )


def person(session: Session, *, proved: bool = False) -> Who:
    """Whoever is signed in."""
    return Who.person(session.facts.sub, session.facts.groups, proved=proved)


def good_for(seconds: int) -> str:
    """How long a request is good, in words."""
    if words := TIMES.get(str(seconds)):
        return words
    for length, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"


def _acting(frame: Frame) -> Session | None:
    """Who is signed in, where the page is not shown as somebody else."""
    session = frame.session
    return session if session and frame.viewer and frame.viewer.sub == session.facts.sub else None


def _tools(server: RegisteredServer) -> Iterator[str]:
    seen: set[str] = set()
    for release in filter(None, (server.release, server.waiting)):
        for tool in release.tools:
            if tool.name not in seen:
                seen.add(tool.name)
                yield tool.name


def _asked(requirement: Requirement | None, server: RegisteredServer) -> str:
    return asked(requirement, server.owner) if requirement else ""
