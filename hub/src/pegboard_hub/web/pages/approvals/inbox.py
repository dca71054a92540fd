"""What waits for whoever looks, what they asked for, and everything so far that they may see.

The list follows by itself: htmx asks for it again every few seconds, and is told nothing where nothing changed. No
form is on these pages that changes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.approval import State
from pegboard.core.caller import Caller
from pegboard_hub.approvals.model import Page, Place, Which
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.approvals.looking import PATH, STATE_WORDS, Row, left_words, reader_of, rows_of
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, Framer, with_query
from pegboard_hub.web.paging import cursor_of, place_of
from pegboard_hub.web.parts import Parts

HISTORY: Final = f"{PATH}/history"
ON_A_PAGE: Final = 50
MOST_MINE: Final = 20
ME: Final = "me"
LONGEST_FILTER: Final = 255


@dataclass(frozen=True, slots=True)
class InboxView:
    """The lists.

    Attributes:
        here: where the list is asked for again; it says what is known of it.
        sees_all: whether who looks may look at everybody's.
        begins: whether these are the first that wait; only then what the person asked for stands below.
        more, more_mine: where there are more.
    """

    waiting: tuple[Row, ...]
    mine: tuple[Row, ...]
    begins: bool
    more: str
    more_mine: bool
    here: str
    sees_all: bool

    @property
    def left(self) -> Any:
        """Says how long it is until a time."""
        return left_words

    @property
    def waiting_words(self) -> str:
        """What is said aloud when the list has changed."""
        count = sum(row.count for row in self.waiting)
        if not count:
            return "Nothing waits for you."
        return f"{count}{' or more' if self.more else ''} {'waits' if count == 1 else 'wait'} for you."


@dataclass(frozen=True, slots=True)
class HistoryView:
    """Requests so far.

    Attributes:
        scope: whose they are, in words.
        asked: the filters, by field; `problems` what is wrong with them.
    """

    scope: str
    asked: Mapping[str, str]
    problems: Mapping[str, str]
    rows: tuple[Row, ...] = ()
    older: str = ""
    newest: str = ""
    states: tuple[tuple[str, str], ...] = field(
        default=tuple((state.value, words) for state, words in STATE_WORDS.items())
    )

    @property
    def left(self) -> Any:
        """Says how long it is until a time."""
        return left_words

    @property
    def narrowed(self) -> bool:
        """Whether it is asked for some alone."""
        return any(self.asked.values())


def add_inbox_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(PATH)
    async def inbox(request: Request, session: HereSession) -> Response:
        asked = request.query_params
        view = await inbox_view(parts, session, asked.get("after", ""))
        part = is_part(request)
        if part and told_already(request, view.here):
            return unchanged()
        template = "approvals_list.html" if part else "approvals.html"
        return following(framer.answer(template, framer.frame(request, PATH), view))

    @router.get(HISTORY)
    async def history(request: Request, session: HereSession) -> Response:
        view = await history_view(parts, session, request.query_params)
        frame = framer.frame(request, PATH, "Approvals so far")
        return framer.answer("approvals_history.html", frame, view, 422 if view.problems else 200)


async def inbox_view(parts: Parts, session: Session, after: str = "") -> InboxView:
    """What waits for somebody, from a place on.

    Raises:
        Refused: the place was not given for this list and this person.
    """
    reader, caller = reader_of(parts, session), _caller(session)
    waiting = await parts.approvals.inbox(reader, ON_A_PAGE, _place(parts, after, caller, PATH))
    mine = Page([], None) if after else await parts.approvals.mine(reader, MOST_MINE)
    rows, own = rows_of(waiting.requests), rows_of(mine.requests)
    more = _next(parts, waiting, caller, PATH)
    facts = [
        [row.request.id, row.count, row.states, left_words(row.expires_ms)] for found in (rows, own) for row in found
    ]
    return InboxView(
        waiting=rows,
        mine=own,
        begins=not after,
        more=with_query(PATH, [("after", more)]) if more else "",
        more_mine=mine.after is not None,
        here=with_query(PATH, [("after", after), ("seen", digest_of([facts, more]))]),
        sees_all=reader.sees_all,
    )


async def history_view(parts: Parts, session: Session, asked: Mapping[str, str]) -> HistoryView:
    """Everything so far that somebody may see, narrowed by what they ask for.

    Raises:
        Refused: the place was not given for this list and this person.
    """
    reader, caller = reader_of(parts, session), _caller(session)
    form = {name: asked.get(name, "").strip()[:LONGEST_FILTER] for name in ("server", "person", "state")}
    scope = "All requests of everybody." if reader.sees_all else "What you asked for, and what you may decide on."
    if form["state"] and form["state"] not in STATE_WORDS:
        return HistoryView(scope, form, {"state": "There is no such standing."})
    which = Which(
        server=form["server"] or None,
        person=(reader.sub if form["person"] == ME else form["person"]) or None,
        state=State(form["state"]) if form["state"] else None,
    )
    of = with_query(HISTORY, form.items())
    before = asked.get("before", "")
    found = await parts.approvals.history(reader, ON_A_PAGE, _place(parts, before, caller, of), which)
    older = _next(parts, found, caller, of)
    return HistoryView(
        scope,
        form,
        {},
        rows_of(found.requests),
        older=with_query(HISTORY, [*form.items(), ("before", older)]) if older else "",
        newest=of if before else "",
    )


def is_part(request: Request) -> bool:
    """Whether htmx asks for what follows by itself, and not a browser for the page."""
    return request.headers.get("hx-request-type") == "partial"


def told_already(request: Request, here: str) -> bool:
    """Whether who asks has just this: `here` is where what there is now would be asked for again."""
    return f"{request.url.path}?{request.url.query}" == here


def unchanged() -> Response:
    """The answer to who has it already: nothing on their page moves."""
    return Response(status_code=204, headers={"Cache-Control": "no-store", "Vary": "HX-Request-Type"})


def following(response: Response) -> Response:
    """A page or its part, which are not to be taken for each other."""
    response.headers["Vary"] = "HX-Request-Type"
    return response


def digest_of(facts: Any) -> str:
    """Some digits that differ where what is shown does."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _caller(session: Session) -> Caller:
    return caller_of(session.facts, DEFAULT_SURFACE, CLIENT)


def _place(parts: Parts, cursor: str, caller: Caller, of: str) -> Place | None:
    read = place_of(parts.cursors, cursor or None, caller, of)
    return Place(read[0], read[1]) if read else None


def _next(parts: Parts, page: Page, caller: Caller, of: str) -> str:
    return cursor_of(parts.cursors, list(page.after), caller, of) if page.after else ""
