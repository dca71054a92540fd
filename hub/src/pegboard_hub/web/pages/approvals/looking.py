"""Requests as the pages show them: what, who, at what cost, for how long; and everything that would run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from pegboard.core.approval import CALLER, OPEN, Requirement, State
from pegboard_hub.approvals.model import Decider, Reader, Request
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.approvals.strange import Piece, notes_of, one_line
from pegboard_hub.web.pages.approvals.values import Value, Values, written
from pegboard_hub.web.parts import Parts

PATH = "/approvals"

MOST_ON_A_PAGE = 60_000
"""Characters of arguments and previews of one page with several actions. Those for which no more is left are shown on
pages of their own, and are not decided on here: nobody approves what is not on the page."""

LONGEST_BRIEF = 160
"""Characters of what a list tells of a request."""

STATE_WORDS: Final[Mapping[State, str]] = {
    State.REQUESTED: "waiting",
    State.APPROVED: "approved",
    State.REJECTED: "rejected",
    State.EXPIRED: "expired",
    State.WITHDRAWN: "withdrawn",
    State.CLAIMED: "running",
    State.DONE: "done",
    State.FAILED: "failed",
    State.UNKNOWN: "outcome unknown",
}

STATE_MEANS: Final[Mapping[State, str]] = {
    State.REQUESTED: "It runs only after a yes.",
    State.APPROVED: "It has not run yet. It runs once, when the same call is made again.",
    State.REJECTED: "It did not run.",
    State.EXPIRED: "Its time was over before it ran. It did not run.",
    State.WITHDRAWN: "It was taken back. It did not run.",
    State.CLAIMED: "It runs now, once.",
    State.DONE: "It ran, and its server says that it is done.",
    State.FAILED: "It was to run, and its server says that it failed.",
    State.UNKNOWN: (
        "It was begun, and nothing said how it ended: its server ended or fell silent meanwhile. It may have "
        "happened. Look before it is asked for again."
    ),
}

FINAL: Final = frozenset(State) - OPEN - {State.CLAIMED, State.UNKNOWN}
"""States that a page need not follow any more."""

SOURCES: Final[Mapping[str, str]] = {
    "server": "as the server’s own code says",
    "registry": "as security or the owners ask for it in the registry",
}


@dataclass(frozen=True, slots=True)
class Row:
    """Some requests of one batch in a list; mostly one.

    Attributes:
        tools: which are to run, each once.
        brief: what would happen, in a line; of the first of them.
        states: how many stand how, in words.
        expires_ms: when the first of them expires, in milliseconds since the epoch.
    """

    request: Request
    tools: tuple[str, ...]
    count: int
    href: str
    brief: tuple[Piece, ...]
    who: str
    states: tuple[tuple[str, str, int], ...]
    expires_ms: int

    @property
    def open(self) -> bool:
        """Whether the first of them may still run."""
        return self.request.state in OPEN


@dataclass(frozen=True, slots=True)
class ActionView:
    """One action with everything that would run.

    Attributes:
        what: what the tool says will happen; empty where it says nothing.
        left_out: why it is not shown here, in words; empty where all of it is.
        folded: how many characters of it are folded.
        notes: what to know of the texts in it.
        kept: whether its arguments are still kept.
    """

    request: Request
    what: tuple[Piece, ...]
    cost: tuple[Piece, ...]
    arguments: tuple[Value, ...]
    blocks: tuple[Value, ...]
    notes: tuple[str, ...]
    folded: int
    left_out: str = ""
    ticked: bool = False

    @property
    def kept(self) -> bool:
        """Whether its arguments are still kept."""
        return self.request.arguments is not None

    @property
    def word(self) -> str:
        """How it stands."""
        return STATE_WORDS[self.request.state]

    @property
    def means(self) -> str:
        """What that means."""
        return STATE_MEANS[self.request.state]


def reader_of(parts: Parts, session: Session) -> Reader:
    """Who looks, as a reader of requests."""
    return parts.approvals.reader(session.facts.sub, session.facts.groups)


def decider_of(session: Session) -> Decider:
    """Who decides: from a browser's session, and from nothing else."""
    return Decider(session.facts.sub, session.facts.groups, session.facts.name)


def rows_of(requests: Iterable[Request]) -> tuple[Row, ...]:
    """Requests as a list shows them; neighbours of one batch are one entry."""
    return tuple(_row(list(found)) for _, found in groupby(requests, key=lambda each: (each.batch, each.person)))


def _row(requests: list[Request]) -> Row:
    first = requests[0]
    counts: dict[State, int] = {}
    for each in requests:
        counts[each.state] = counts.get(each.state, 0) + 1
    return Row(
        request=first,
        tools=tuple(dict.fromkeys(each.tool for each in requests)),
        count=len(requests),
        href=f"{PATH}/{first.id}",
        brief=brief_of(first),
        who=who_asks(first),
        states=tuple((state.value, STATE_WORDS[state], count) for state, count in counts.items()),
        expires_ms=min(each.expires_at_ms for each in requests),
    )


def brief_of(request: Request) -> tuple[Piece, ...]:
    """What would happen, in a line: in the tool's words, or else the beginning of the arguments."""
    text = request.preview.what if request.preview else ""
    if not text:
        text = written_short(request.arguments) if request.arguments is not None else "arguments no longer kept"
    return one_line(text if len(text) <= LONGEST_BRIEF else f"{text[:LONGEST_BRIEF]}…")


def written_short(arguments: Mapping[str, Any]) -> str:
    """The beginning of arguments on one line."""
    return ", ".join(f"{name}: {written(value)}" for name, value in list(arguments.items())[:5])[: LONGEST_BRIEF + 1]


def who_asks(request: Request) -> str:
    """Whose call it is, as people know them."""
    return shown(request.person_name or request.person)


def with_id(name: str, id: str) -> str:
    """A person by name and id: a name can be anything."""
    return shown(f"{name} ({id})" if name and name != id else id)


def asks_of(parts: Parts, request: Request, sub: str) -> str:
    """Who is to say yes, in words."""
    if request.requirement.by == CALLER:
        return "you" if sub == request.person else who_asks(request)
    return parts.approvals.who_decides(request, sub)


def actions_of(parts: Parts, requests: Sequence[Request], ticked: Iterable[str] = ()) -> tuple[ActionView, ...]:
    """Actions with everything that would run, as far as one page can hold it; one alone is always whole."""
    found: list[ActionView] = []
    left, ticks = MOST_ON_A_PAGE, set(ticked)
    for each in requests:
        length = _length(each)
        if found and length > left:
            words = f"It has {length:,} characters, which this list has no room for: it is decided on its own page."
            what = each.preview.what if each.preview else ""
            found.append(ActionView(each, one_line(what), (), (), (), (), 0, words))
        else:
            left -= length
            found.append(_action(each, _schema_of(parts, each), each.id in ticks))
    return tuple(found)


def _length(request: Request) -> int:
    """About how many characters a page needs for it."""
    shown = request.preview.blocks if request.preview else ()
    return len(json.dumps(request.arguments, ensure_ascii=False)) + sum(len(block.text) for block in shown)


def _action(request: Request, schema: Mapping[str, Any], ticked: bool) -> ActionView:
    preview = request.preview
    what, cost = (preview.what, preview.cost) if preview else ("", "")
    values = Values()
    arguments = values.arguments(request.arguments or {}, schema)
    blocks = values.blocks(preview.blocks if preview else ())
    told = [*notes_of(what), *notes_of(cost), *(note for each in (*arguments, *blocks) for note in each.notes)]
    folded = sum(len(line.text) for each in (*arguments, *blocks) for line in each.shown.folded)
    return ActionView(
        request, one_line(what), one_line(cost), arguments, blocks, tuple(dict.fromkeys(told)), folded, "", ticked
    )


def _schema_of(parts: Parts, request: Request) -> Mapping[str, Any]:
    """The input schema as its author pinned it in the release that would run; none where another one is there now."""
    server = parts.registry.current.servers.get(request.server)
    release = server.release if server else None
    if release is None or release.digest != request.release:
        return {}
    return next((tool.input_schema for tool in release.tools if tool.name == request.tool), {})


def is_current(parts: Parts, request: Request) -> bool:
    """Whether the release that it was asked for is still the one that runs: a yes to another one starts nothing."""
    server = parts.registry.current.servers.get(request.server)
    return server is not None and server.release is not None and server.release.digest == request.release


def own_words(requirement: Requirement) -> str:
    """Where the requirement comes from, in words."""
    return SOURCES[requirement.source]


def left_words(expires_at_ms: int, now_s: float | None = None) -> str:
    """How long it is until a time, in words."""
    seconds = expires_at_ms / 1000 - (time.time() if now_s is None else now_s)
    if seconds <= 0:
        return "over"
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (seconds >= length and unit == "minute"):
            count = int(seconds // length)
            return f"in {count} {unit}{'' if count == 1 else 's'}"
    return "in less than a minute"
