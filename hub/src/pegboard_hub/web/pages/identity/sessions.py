"""Where am I signed in: each of a person's sign-ins with what is connected from it, and how to end either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.names import MCP_PREFIX, api_audience, exchange_audience
from pegboard.core.scopes import SCOPE_TOOLS_READ
from pegboard_hub.identity.clients.model import Client
from pegboard_hub.identity.clients.names import cleaned, shown
from pegboard_hub.identity.connections.model import Connection
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.parts import Parts

PATH = "/sessions"
DISCONNECT = f"{PATH}/disconnect"
SIGN_OUT = f"{PATH}/sign-out"

MOST_SIGN_INS = 50
MOST_CONNECTIONS = 100
"""Rows that are shown of one sign-in."""

DONE = {
    "disconnected": (
        "Disconnected. What the program had there is void, and you are asked before it connects to any server again. "
        "What it has on other servers goes on: disconnect it there too."
    ),
    "disconnected-trusted": (
        "Disconnected. What the program had there is void. Nobody is asked about it here, so it comes back when it "
        "is told to connect again."
    ),
    "signed-out": "Signed out there. What was connected from it can do nothing more as you, from now on.",
}
"""What was done, by its word in the page's address."""


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """What one program has on one server from one sign-in, in however many connections.

    Attributes:
        connection: the one that was used last; it stands for all of them.
    """

    connection: Connection
    client: str
    server: str
    may: str


@dataclass(frozen=True, slots=True)
class SignInView:
    """One sign-in.

    Attributes:
        here: whether it is this browser's.
    """

    session: Session
    here: bool
    connections: tuple[ConnectionView, ...]


@dataclass(frozen=True, slots=True)
class SessionsView:
    """What the page shows.

    Attributes:
        hidden: how many more sign-ins there are.
        done: what has just been done.
    """

    sign_ins: tuple[SignInView, ...]
    hidden: int
    done: str


def add_session_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""
    identity = parts.identity

    @router.get(PATH)
    async def where(request: Request, session: HereSession) -> HTMLResponse:
        done = DONE.get(request.query_params.get("done", ""), "")
        view = await sessions_view(parts, session, done)
        return framer.answer("sessions.html", framer.frame(request, PATH, "Where am I signed in"), view)

    @router.post(DISCONNECT)
    async def disconnect(request: Request, session: HereSession) -> Response:
        named = (await framer.browsers.form(request)).get("connection", "")
        return see_other(f"{PATH}?done={await _disconnect(parts, session.facts.sub, named)}")

    @router.post(SIGN_OUT)
    async def sign_out(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        mine = {each.sid for each in await identity.sessions.of(session.facts.sub)}
        named = form.get("session", "")
        if named == "all":
            await identity.sessions.end_all_of(session.facts.sub, "signed out everywhere")
        elif named in mine:
            await identity.sessions.end(named, "signed out")
        if named not in ("all", session.sid):
            return see_other(f"{PATH}?done=signed-out")
        response = see_other("/sign-out")
        framer.browsers.sign_out(response)
        return response


async def _disconnect(parts: Parts, sub: str, named: str) -> str:
    """End what a program has on a server from one sign-in, and the person's yes to it, so that it asks again.

    Every connection of that kind ends: a program that signed in twice has two, and goes on with either. Another
    person's, or one that was ended in another tab, is none of theirs: there is nothing to do.

    Gives the word for what was done.
    """
    identity = parts.identity
    found = next((each for each in await identity.connections.of(sub) if each.connection == named), None)
    if found is None:
        return "disconnected"
    client = await identity.clients.last_known(found.client_id)
    ids = {found.client_id}
    if client is not None:
        await identity.clients.withdraw(sub, client.software)
        ids |= set(await identity.clients.ids_of(client.software))
    await identity.connections.end_alike(found, ids, "disconnected")
    return "disconnected" if client is None or client.asks else "disconnected-trusted"


async def sessions_view(parts: Parts, session: Session, done: str = "") -> SessionsView:
    """A person's sign-ins: this browser's first, then those that were used last."""
    sub = session.facts.sub
    sign_ins = sorted(await parts.identity.sessions.of(sub), key=lambda s: (s.sid == session.sid, s.seen_at_ms))
    shown_ones = sign_ins[::-1][:MOST_SIGN_INS]
    connected = await parts.identity.connections.of(sub)
    clients = {each: await parts.identity.clients.last_known(each) for each in {c.client_id for c in connected}}
    views = [
        SignInView(
            sign_in,
            sign_in.sid == session.sid,
            _rows(parts, [each for each in connected if each.sid == sign_in.sid], clients),
        )
        for sign_in in shown_ones
    ]
    return SessionsView(tuple(views), len(sign_ins) - len(views), done)


def _rows(
    parts: Parts, connected: Iterable[Connection], clients: Mapping[str, Client | None]
) -> tuple[ConnectionView, ...]:
    """Connections of one sign-in by program and server, those that were used last first."""
    alike: dict[tuple[str, str], list[Connection]] = {}
    for each in sorted(connected, key=lambda c: c.seen_at_ms, reverse=True):
        client = clients[each.client_id]
        alike.setdefault((client.software if client else each.client_id, each.resource), []).append(each)
    return tuple(
        ConnectionView(group[0], _name(clients[group[0].client_id]), _server(parts, group[0].resource), _may(group))
        for group in list(alike.values())[:MOST_CONNECTIONS]
    )


def _name(client: Client | None) -> str:
    return shown(cleaned(client.name)) if client else "a program that is gone"


def _server(parts: Parts, resource: str) -> str:
    if not resource:
        return "every server"
    if resource == exchange_audience(parts.public_url):
        return "what the operators let it reach, for you"
    if resource == api_audience(parts.public_url):
        return "Pegboard’s API"
    return resource.removeprefix(parts.public_url + MCP_PREFIX)


def _may(connected: Iterable[Connection]) -> str:
    only_reads = all(each.scope.split() == [SCOPE_TOOLS_READ] for each in connected)
    return "only read" if only_reads else "every tool"
