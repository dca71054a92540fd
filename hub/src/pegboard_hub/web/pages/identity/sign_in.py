"""Signing in and out, on pages: choosing a person of the demo directory, or going to the company's login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.names import MCP_PREFIX, ServerName
from pegboard_hub.identity.clients.names import cleaned, shown
from pegboard_hub.identity.directory import Person
from pegboard_hub.identity.oauth.authorize import led_here
from pegboard_hub.identity.person import SignedIn
from pegboard_hub.identity.provider.login import AGAIN_FIELD, SIGN_IN, START, ProviderLogin
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.browser import is_back, stranger, visitor
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.identity.user_agents import device_of
from pegboard_hub.web.pages.onward import onward, see_other
from pegboard_hub.web.parts import Parts

SIGN_OUT = "/sign-out"
AUTHORIZE = "/oauth/authorize?"


@dataclass(frozen=True, slots=True)
class SignInView:
    """What the sign-in page shows.

    Attributes:
        then: where the person goes on to.
        people: of the demo directory; empty with any other login.
        problem: what went wrong at the last try; empty where nothing did.
        what_to_do: about it.
        led_here: whether a page of another site led the person here, to connect a program on their machine.
        program: what a program that waits calls itself; untrusted.
        server: what it asks for, by its name; whether there is one is not told to who is not signed in.
        again: whether somebody who is signed in is to prove anew who they are.
    """

    then: str
    people: Mapping[str, Person] = field(default_factory=dict)
    problem: str = ""
    what_to_do: str = ""
    led_here: bool = False
    program: str = ""
    server: str = ""
    again: bool = False

    @property
    def for_client(self) -> bool:
        """Whether a client's authorization request waits."""
        return self.then.startswith(AUTHORIZE)

    @property
    def start(self) -> str:
        """Where the company's login begins."""
        asked = {"continue": self.then} | ({AGAIN_FIELD: "1"} if self.again else {})
        return f"{START}?{urlencode(asked)}"


@dataclass(frozen=True, slots=True)
class SignOutView:
    """What the page of signing out shows.

    Attributes:
        connections: what ends with this browser's session.
        others: the person's other sessions.
        there_too: whether the browser comes from the company's login, which has signed the person out too.
    """

    connections: int = 0
    others: int = 0
    there_too: bool = False


def add_sign_in_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages of signing in and out; nobody need be signed in to see them."""
    _add_in(router, parts, framer)
    _add_out(router, parts, framer)


def ask_to_sign_in(framer: Framer, request: Request, view: SignInView, status: int = 200) -> HTMLResponse:
    """The sign-in page, also for a login that has to say what went wrong."""
    response = framer.answer("sign_in.html", framer.frame(request, SIGN_IN, "Sign in"), view, status)
    framer.browsers.keep(visitor(request), response)
    return response


async def let_in(parts: Parts, framer: Framer, request: Request, signed_in: SignedIn, then: str) -> Response:
    """Open a session for whom the login told, and go on. The session is always a new one (session fixation)."""
    sessions, then = parts.identity.sessions, _then(then)
    session, secret = await sessions.open(signed_in, device_of(request.headers.get("user-agent", "")))
    response: Response = see_other(then)
    if then.startswith(AUTHORIZE):
        words = f"You are signed in as {session.facts.name}, and go on to the program that asked."
        response = framer.onward(request, "Signed in", words, then)
    framer.browsers.sign_in(response, secret, sessions.lifetime_s)
    return response


def led_to(parts: Parts, request: Request, then: str) -> bool:
    """Whether a page of another site led the person to `then`, for an answer to a program on their machine.

    The company's login lets in whom it knows without a click, and what goes on from there comes from our own pages.
    """
    path, _, query = then.partition("?")
    return f"{path}?" == AUTHORIZE and led_here(request, dict(parse_qsl(query)), parts.public_url)


async def _waiting(parts: Parts, then: str) -> tuple[str, str]:
    """Which program waits for the person, and for which server, by their names; empty where none does."""
    if not then.startswith(AUTHORIZE):
        return "", ""
    asked = dict(parse_qsl(then.partition("?")[2]))
    client = await parts.identity.clients.last_known(asked.get("client_id", ""))
    try:
        server = str(ServerName.parse(asked.get("resource", "").removeprefix(parts.public_url + MCP_PREFIX)))
    except ValueError:
        server = ""
    return shown(cleaned(client.name)) if client else "", server


def _add_in(router: APIRouter, parts: Parts, framer: Framer) -> None:
    demo = parts.identity.demo

    @router.get(SIGN_IN)
    async def ask(request: Request) -> Response:
        then = _then(request.query_params.get("continue"))
        program, server = await _waiting(parts, then)
        people = demo.directory.people if demo else {}
        again = AGAIN_FIELD in request.query_params
        led = led_to(parts, request, then)
        view = SignInView(then, people, led_here=led, program=program, server=server, again=again)
        if demo is None and view.for_client and not view.led_here and visitor(request).session is None:
            return see_other(view.start)
        return ask_to_sign_in(framer, request, view)

    if demo is None:
        return

    @router.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        form = await framer.browsers.form(request)
        then, person = _then(form.get("continue")), form.get("person", "")
        if person not in demo.directory.people:
            view = SignInView(then, demo.directory.people, "There is no such person here.", "Choose one of these.")
            return ask_to_sign_in(framer, request, view, 422)
        return await let_in(parts, framer, request, demo.sign_in(person), then)


def _add_out(router: APIRouter, parts: Parts, framer: Framer) -> None:
    identity = parts.identity

    @router.get(SIGN_OUT)
    async def ask(request: Request) -> HTMLResponse:
        session, view = visitor(request).session, SignOutView(there_too=is_back(request))
        if session is not None:
            connected = [each for each in await identity.connections.of(session.facts.sub) if each.sid == session.sid]
            others = len(await identity.sessions.of(session.facts.sub)) - 1
            view = SignOutView(len(connected), others)
        title = "Sign out" if session else "Signed out"
        return framer.answer("sign_out.html", framer.frame(request, SIGN_OUT, title), view)

    @router.post(SIGN_OUT)
    async def sign_out(request: Request) -> Response:
        session = visitor(request).session
        response: Response = see_other(SIGN_OUT)
        if session is not None:
            form = await framer.browsers.form(request)
            # First here: nothing of it waits for the login, which may be away.
            if form.get("which") == "everywhere":
                await identity.sessions.end_all_of(session.facts.sub, "signed out everywhere")
            else:
                await identity.sessions.end(session.sid, "signed out")
            away = stranger()
            if way := await _way_out(parts, session, away.state):
                words = f"You are signed out here, and go on to be signed out at {identity.sessions.login.name}."
                response = framer.onward(request, "Signed out", words, way)
                framer.browsers.keep(away, response)
            framer.browsers.sign_out(response)
        return response


async def _way_out(parts: Parts, session: Session, state: str) -> str | None:
    """Where the person is signed out at the company's login too; None where that is not wanted."""
    sessions = parts.identity.sessions
    if not isinstance(sessions.login, ProviderLogin):
        return None
    return await sessions.login.sign_out_url(sessions.renewal_of(session), state)


def _then(asked: str | None) -> str:
    """Where to go after signing in: never back to signing in or out."""
    then = onward(asked)
    return "/" if then.partition("?")[0].startswith((SIGN_IN, SIGN_OUT)) else then
