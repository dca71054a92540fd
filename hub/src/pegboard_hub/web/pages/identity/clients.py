"""The operators' page of clients: what is connected, who uses it, and the one place where anybody decides on it.

Deciding wants a person at a browser: an agent holds its person's token, and could otherwise approve the program that
it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.redirects import is_loopback_redirect
from pegboard_hub.common.requests import refuse
from pegboard_hub.identity.clients.errors import DecisionRefused
from pegboard_hub.identity.clients.listing import Software
from pegboard_hub.identity.clients.model import ClientKind, Standing
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.clients.service import DECIDED_SURFACES
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.knowing import not_an_operator
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.identity.strangers import poses_as_us
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.parts import Parts

PATH = "/clients"
DECIDE = f"{PATH}/decide"
TITLE = "Clients"

MOST_PLACES = 2
"""Redirects that the list shows of one client; its own page has them all."""

MOST_NAMES = 3
MOST_USERS = 100

KINDS = {
    ClientKind.FIRST_PARTY: "Pegboard’s own",
    ClientKind.REGISTERED: "in the sign-in file",
    ClientKind.DOCUMENT: "known by a document",
    ClientKind.DYNAMIC: "made itself known",
    ClientKind.SURFACE: "acts for people",
}
"""Each kind for the list; `ABOUT` has it as a sentence."""

ABOUT = {
    ClientKind.FIRST_PARTY: "Pegboard’s own command.",
    ClientKind.REGISTERED: "A client that the operator wrote into the sign-in file.",
    ClientKind.DOCUMENT: "A client whose id is the address of a document about it.",
    ClientKind.DYNAMIC: "A client that made itself known when it came (dynamic registration).",
    ClientKind.SURFACE: "A surface that the operator registered, with a key of its own: it acts for many people.",
}

DONE = {
    Standing.APPROVED: "Approved. From now on nobody is asked about it.",
    Standing.BLOCKED: "Blocked. What it had connected has ended; its tokens are refused within seconds.",
    Standing.UNKNOWN: "Back to unknown. Each person is asked about it once.",
}
"""What was done, by the standing that a client has since."""


@dataclass(frozen=True, slots=True)
class Row:
    """One software. Its texts are a stranger's, with nothing left in them that hides.

    Attributes:
        places: where answers go; `more_places` is how many more there are.
        used_by: who has it connected, in words.
    """

    found: Software
    name: str
    kind: str
    places: tuple[str, ...]
    more_places: int
    used_by: str
    href: str


@dataclass(frozen=True, slots=True)
class ListView:
    """The list, and how many clients there are besides that nobody ever used."""

    rows: tuple[Row, ...]
    unused: int


@dataclass(frozen=True, slots=True)
class ClientView:
    """One software, and the form that decides on it.

    Attributes:
        standings: what it can be decided to be, in words.
        surfaces: what its calls can be decided to count as; none of one that the operator registered.
        chosen: what the form has chosen, and `why` it says.
        warnings: what to know before approving it.
    """

    row: Row
    about: str
    uri: str
    users: tuple[tuple[str, str, int], ...]
    more_users: int
    decided_why: str
    standings: tuple[tuple[str, str], ...]
    surfaces: tuple[str, ...]
    chosen: Form
    warnings: tuple[str, ...]
    done: str
    problem: str


def add_client_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, session: HereSession) -> HTMLResponse:
        await _operator(parts, request, session)
        software = request.query_params.get("software", "").strip()
        if not software:
            return framer.answer("clients.html", framer.frame(request, PATH, TITLE), await list_view(parts))
        done = request.query_params.get("done", "")
        return await _one(request, software, done=DONE[Standing(done)] if done in tuple(DONE) else "")

    @router.post(DECIDE)
    async def decide(request: Request, session: HereSession) -> Response:
        operator = await _operator(parts, request, session)
        form = await framer.browsers.form(request)
        software, standing = form.get("software", ""), form.get("standing", "")
        try:
            await _decide(parts, operator, form)
        except DecisionRefused as error:
            return await _one(request, software, form, problem=f"Nothing was decided: {error}.", status=422)
        return see_other(f"{PATH}?{urlencode({'software': software, 'done': standing})}")

    async def _one(
        request: Request,
        software: str,
        form: Form | None = None,
        *,
        done: str = "",
        problem: str = "",
        status: int = 200,
    ) -> HTMLResponse:
        found = await parts.identity.clients.software(software)
        if found is None:
            words = "It may have been forgotten since, or its document may not be fetched here. Look at the list."
            raise refuse(404, "not_found", "No client is known by that.", words)
        view = client_view(found, form or {}, done=done, problem=problem)
        return framer.answer("client.html", framer.frame(request, PATH, TITLE), view, status)


async def list_view(parts: Parts) -> ListView:
    """Every software, those first on which a decision is wanting and those last that nobody ever used."""
    listed = await parts.identity.clients.listed()
    ordered = sorted(listed.software, key=lambda found: (_rank(found), -(found.last_seen_at_ms or 0)))
    return ListView(tuple(_row(found) for found in ordered), listed.unused)


def client_view(found: Software, form: Form, *, done: str = "", problem: str = "") -> ClientView:
    """One software, with the form as it was sent or as the last decision stands."""
    own = found.kind in (ClientKind.FIRST_PARTY, ClientKind.REGISTERED, ClientKind.SURFACE)
    decided = found.decided
    chosen = {"standing": "", "surface": decided.surface or "" if decided else "", "why": ""} | form
    return ClientView(
        row=_row(found),
        about=ABOUT[found.kind],
        uri=shown(found.uri or ""),
        users=tuple((sub, shown(name), count) for sub, name, count in found.users[:MOST_USERS]),
        more_users=max(0, len(found.users) - MOST_USERS),
        decided_why=shown(decided.why) if decided else "",
        standings=_standings(own),
        surfaces=() if own else DECIDED_SURFACES,
        chosen=chosen,
        warnings=() if own else _warnings(found),
        done=done,
        problem=problem,
    )


async def _operator(parts: Parts, request: Request, session: Session) -> Session:
    """The session with the facts that the login tells now: who is an operator no more decides no more.

    Raises:
        Refused: somebody else looks, or the login does not answer.
        SignInNeeded: the sign-in has ended meanwhile.
    """
    current = await told_now(parts, request, session)
    if not parts.identity.clients.may_look_after(current.facts.groups):
        raise not_an_operator(parts)
    return current


async def _decide(parts: Parts, operator: Session, form: Form) -> None:
    """Decide as the form says.

    Raises:
        DecisionRefused: it cannot be done.
    """
    standing = form.get("standing", "")
    if standing not in tuple(Standing):
        raise DecisionRefused("choose what it shall be")
    surface = form.get("surface") or None
    await parts.identity.clients.decide(
        form.get("software", ""), Standing(standing), surface, operator.facts.sub, form.get("why", "")
    )


def _standings(own: bool) -> tuple[tuple[str, str], ...]:
    if own:
        approve = "Let it in, as registered"
        return (Standing.APPROVED, approve), (Standing.BLOCKED, "Block: it gets nothing, and what it has ends")
    return (
        (Standing.APPROVED, "Approve: nobody is asked about it"),
        (Standing.BLOCKED, "Block: it gets nothing, and what it has ends"),
        (Standing.UNKNOWN, "Unknown: each person is asked once"),
    )


def _warnings(found: Software) -> tuple[str, ...]:
    warnings = []
    if poses_as_us(found.name):
        warnings.append("Its name reads like Pegboard’s, and it is none of Pegboard’s.")
    if any(is_loopback_redirect(uri) for uri in found.redirect_uris):
        warnings.append(
            "Its answers may go to the person’s own machine. To approve it is to approve every program there "
            "that calls itself so."
        )
    if not all(uri.startswith("https://") or is_loopback_redirect(uri) for uri in found.redirect_uris):
        warnings.append("Its answers may go to whichever program has taken that scheme on the person’s machine.")
    return tuple(warnings)


def _row(found: Software) -> Row:
    return Row(
        found=found,
        name=shown(found.name),
        kind=KINDS[found.kind],
        places=tuple(shown(uri) for uri in found.redirect_uris),
        more_places=max(0, len(found.redirect_uris) - MOST_PLACES),
        used_by=_used_by(found),
        href=f"{PATH}?{urlencode({'software': found.software})}",
    )


def _used_by(found: Software) -> str:
    users = found.users
    if not users:
        return "nobody now"
    names = ", ".join(shown(name) for _, name, _ in users[:MOST_NAMES])
    return names + (f" and {len(users) - MOST_NAMES} more" if len(users) > MOST_NAMES else "")


def _rank(found: Software) -> int:
    if found.last_seen_at_ms is None and found.decided is None:
        return 3 if found.kind in (ClientKind.DOCUMENT, ClientKind.DYNAMIC) else 2
    return 0 if found.standing is Standing.UNKNOWN else 1
