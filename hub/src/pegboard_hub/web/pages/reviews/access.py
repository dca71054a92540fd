"""The page on which a server's owners submit a draft, ask for more access or less, and say what has ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.names import SURFACES
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.ending import Ending
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.impact import once_approved
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer
from pegboard_hub.registry.record import LONGEST_WHY
from pegboard_hub.registry.reviews.asking import Asked, asks_the_same, check_unreviewed
from pegboard_hub.registry.reviews.errors import NotYours
from pegboard_hub.registry.reviews.granting import Unreached
from pegboard_hub.registry.reviews.lifecycle import moves_of
from pegboard_hub.registry.reviews.model import TITLES, State, in_order
from pegboard_hub.registry.reviews.rules import common, together, within
from pegboard_hub.registry.reviews.store import TAKE_BACK
from pegboard_hub.registry.reviews.texts import check_access
from pegboard_hub.web.failures import FAILURES, Problem, problem_of, refusal_of
from pegboard_hub.web.impact_view import ImpactView, impact_view, known_people
from pegboard_hub.web.knowing import known_server
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, Framer, with_query
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated, with_filled_in
from pegboard_hub.web.pages.reviews.forms import AccessRow, access_rows, version_of, written_access
from pegboard_hub.web.pages.reviews.inbox import Row, rows_of
from pegboard_hub.web.parts import Parts

PATH = "/servers/{namespace}/{name}/access"
LIFECYCLE = "/servers/{namespace}/{name}/lifecycle"

DONE = {
    "asked": "Asked. Its reviewers find it under Reviews; nothing opens before they approve it.",
    "holds": "Done. It holds from now on, at every layer within two seconds.",
    "holds-later": "Done. Nothing is deployed yet; it holds once a release is.",
    "deprecate": "Deprecated. It can still be called, and says that it should not be for long.",
    "retire": "Retired. Nobody can call it any more.",
    "bring-back": "Brought back.",
    "take-back-to-draft": "Taken back. It is a draft again: edit it, and submit it anew.",
}

MOVES = {
    "deprecate": "Deprecate: it stays callable, says why it will go, and closes by itself at its date",
    "retire": "Retire: nobody can call it any more",
    "bring back": "Bring back, as it was before",
    TAKE_BACK: "Take back to draft: its reviews end, and its record can be edited and submitted anew",
}


@dataclass(frozen=True, slots=True)
class AccessView:
    """What the page shows.

    Attributes:
        reviewed: whether its namespace is one that is reviewed.
        now: what is granted and asked for.
        asked: what the form asks for.
        looked: what it would change, once somebody has looked; empty before.
        impact: who would gain and lose what by it, once somebody has looked.
        kinds: reviews that it would need, in words.
        adds: whether it gives anybody more.
        takes: whether it ends something at once.
        same: whether it would change nothing at all.
        closed: why nobody gets in, where it is approved all the same.
        unknown: groups of it that are new, and in which nobody is; `exhaustive` where everybody is known.
        moves: what may be done with its lifecycle, in words.
        taken: values that its last approval ended, and that are asked for still.
        retiring: who would lose what if it were retired; None where nobody can call it, or it cannot be.
    """

    server: RegisteredServer
    path: str
    draft: bool
    reviewed: bool
    now: dict[str, tuple[AccessRow, ...]]
    asked: Access
    surfaces: tuple[str, ...]
    looked: dict[str, tuple[AccessRow, ...]]
    impact: ImpactView | None
    kinds: tuple[str, ...]
    adds: bool
    takes: bool
    same: bool
    closed: Unreached | None
    unknown: tuple[str, ...]
    exhaustive: bool
    moves: tuple[tuple[str, str], ...]
    taken: tuple[str, ...]
    retiring: ImpactView | None
    open: tuple[Row, ...]
    recent: bool
    again: str
    form: Form
    done: str
    problem: Problem | None

    @property
    def deprecates(self) -> bool:
        """Whether it can be deprecated."""
        return any(action == "deprecate" for action, _ in self.moves)

    @property
    def any(self) -> bool:
        """Whether anything is granted."""
        return any(self.server.granted)

    @property
    def when(self) -> str:
        """From when on holds what nobody reviews."""
        return "at once" if self.server.release else "once a release is deployed"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """What the form asks for, as hidden fields of the one that is sent."""
        texts = [(name, " ".join(getattr(self.asked, name))) for name in ("groups", "channels", "services")]
        return [*texts, *((f"surfaces:{surface}", "on") for surface in self.asked.surfaces)]


def add_access_page_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, session: HereSession, namespace: str, name: str) -> HTMLResponse:
        form = dict(request.query_params)
        try:
            view = await access_view(parts, session, f"{namespace}/{name}", form)
        except FAILURES as error:
            raise refusal_of(error) from error
        done = form.get("done", "")
        # What was asked for is told of until it is decided, however long its address is kept.
        done = DONE.get(done if view.open or done != "asked" else "", "")
        return page(request, replace(view, form=_reason(form), done=done))

    @router.post(PATH)
    async def ask(request: Request, session: HereSession, namespace: str, name: str) -> Response:
        server = f"{namespace}/{name}"
        form, session = await sent(request, session, server)
        try:
            asks = parts.reviewing.submit if _is_draft(parts, server) else parts.reviewing.ask_access
            came = await asks(session.facts, server, written_access(form), form.get("why", ""), version_of(form))
        except FAILURES as error:
            return await again(request, session, server, form | {"look": "1"}, problem_of(error))
        return see_other(f"/servers/{server}/access?done={_outcome(parts, server, came)}")

    @router.get(LIFECYCLE)
    async def back(_session: HereSession, namespace: str, name: str) -> Response:
        """Where the form of the lifecycle was sent to, opened again."""
        return see_other(f"/servers/{quote(namespace, safe='')}/{quote(name, safe='')}/access")

    @router.post(LIFECYCLE)
    async def move(request: Request, session: HereSession, namespace: str, name: str) -> Response:
        server = f"{namespace}/{name}"
        form, session = await sent(request, session, server)
        action = form.get("action", "")
        try:
            why, ending = form.get("why", ""), _ending(form)
            await parts.reviewing.move(session.facts, server, action, why, version_of(form), ending)
        except FAILURES as error:
            return await again(request, session, server, form, problem_of(error))
        return see_other(f"/servers/{server}/access?done={action.replace(' ', '-')}")

    async def sent(request: Request, session: Session, server: str) -> tuple[Form, Session]:
        form = await framer.browsers.form(request)
        session = await told_now(parts, request, session, at_most_s=0)
        _known(parts, session, server)
        return form, recently_authenticated(request, session, _looked_at(f"/servers/{server}/access", form))

    async def again(request: Request, session: Session, server: str, form: Form, problem: Problem) -> HTMLResponse:
        view = await access_view(parts, session, server, form)
        return page(request, replace(view, form=form, problem=problem))

    def page(request: Request, view: AccessView) -> HTMLResponse:
        frame = replace(framer.frame(request, view.path, f"Access to {view.server.name}"), section="/servers")
        status = view.problem.status if view.problem else 200
        return framer.answer("access.html", frame, view, status)


def _looked_at(path: str, form: Form) -> str:
    """The address of the page that shows again what a form asks for, and why."""
    fields = [(name, value) for name, value in form.items() if name.partition(":")[0] in Access._fields]
    looked = with_query(path, [("look", "1"), *fields]) if fields else path
    return with_filled_in(looked, _reason(form).items())


def _reason(form: Form) -> Form:
    """Why, and for the form of the lifecycle what is to become of it."""
    return {name: form[name][:LONGEST_WHY] for name in ("action", "why", "ends", "successor") if name in form}


def _ending(form: Form) -> Ending:
    """When what is deprecated closes, and what takes its place, as the form says.

    Raises:
        ChangeRefused: the date cannot be read.
    """
    day, successor = form.get("ends", "").strip(), form.get("successor", "").strip()
    try:
        at = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) if day else None
    except ValueError as error:
        raise ChangeRefused("the date", "it is none", "Write it as 2027-01-31.") from error
    return Ending(int(at.timestamp() * 1000) if at else None, successor or None)


def _known(parts: Parts, session: Session, name: str) -> RegisteredServer:
    """The server of that name, if this person may know of it; nobody is told which of the two it is."""
    return known_server(parts, caller_of(session.facts, DEFAULT_SURFACE, CLIENT), name)


async def access_view(parts: Parts, session: Session, name: str, form: Form) -> AccessView:
    """The page, for one of the server's owners or an operator.

    Raises:
        Refused: there is no such server for this person.
        NotYours: somebody else asks.
    """
    server, reviewing = _known(parts, session, name), parts.reviewing
    if not reviewing.rights.owns(session.facts, server):
        message = f"Access for {name} is asked for by its owners, people in {server.owner}, and by operators."
        raise NotYours("not_an_owner", message, f"Ask {server.owner} in {server.support_channel}.")
    looking, problem = "look" in form, None
    granted, reviewed = server.granted, reviewing.rights.is_reviewed(server)
    open_ones = await reviewing.listed(server=name, states=[State.OPEN])
    asked = in_order(written_access(form) if looking else _to_begin_with(server, bool(open_ones)))
    try:
        asked = check_access(asked) if looking else asked
        if looking and not reviewed:
            check_unreviewed(server, asked)
    except ChangeRefused as error:
        looking, problem = False, problem_of(error)
    path = f"/servers/{name}/access"
    draft = server.lifecycle is Lifecycle.DRAFT
    adds = not within(asked, granted) or draft
    before = await reviewing.approved_last(server)
    closed = (await reviewing.unreached([server])).get(name)
    taken = await reviewing.taken_from([server])
    ends = server.reachable and "retire" in moves_of(server)
    return AccessView(
        server=server,
        path=path,
        draft=draft,
        reviewed=reviewed,
        now=access_rows(granted, server.requested),
        asked=asked,
        surfaces=SURFACES,
        looked=access_rows(granted, asked) if looking else {},
        impact=await impact_view(parts, before, once_approved(server, asked)) if looking else None,
        kinds=tuple(TITLES[kind] for kind in await reviewing.kinds_of(server)) if adds and reviewed else (),
        adds=adds,
        same=not draft and asks_the_same(server, asked, closed),
        closed=closed,
        unknown=await _unknown(parts, server, asked) if looking else (),
        exhaustive=parts.identity.demo is not None,
        takes=common(granted, asked) != in_order(granted),
        moves=tuple((action, MOVES[action]) for action in moves_of(server)),
        taken=tuple(value for some in taken.get(name, Access()) for value in some),
        retiring=await impact_view(parts, server, replace(server, lifecycle=Lifecycle.RETIRED)) if ends else None,
        open=rows_of(open_ones),
        recent=is_recent(session),
        again=sign_in_again_path(_looked_at(path, form)),
        form={},
        done="",
        problem=problem,
    )


def _to_begin_with(server: RegisteredServer, waits: bool) -> Access:
    """What the form begins with: what is granted, with what is asked for and not yet decided."""
    waits = waits or server.lifecycle is Lifecycle.DRAFT
    return together(server.granted, server.requested) if waits else server.granted


def _outcome(parts: Parts, name: str, came: Asked) -> str:
    """What was done, by its word in the address."""
    if came.opened:
        return "asked"
    return "holds" if parts.registry.current.servers[name].release else "holds-later"


async def _unknown(parts: Parts, server: RegisteredServer, asked: Access) -> tuple[str, ...]:
    """Groups that are asked for anew, and in which nobody is who is known here: perhaps they are written wrong."""
    fresh = set(asked.groups) - {*server.granted.groups, *server.requested.groups}
    if not fresh:
        return ()
    everybody, _ = await known_people(parts)
    return tuple(sorted(fresh.difference(*(person.groups for person in everybody))))


def _is_draft(parts: Parts, name: str) -> bool:
    server = parts.registry.current.servers.get(name)
    return server is not None and server.lifecycle is Lifecycle.DRAFT
