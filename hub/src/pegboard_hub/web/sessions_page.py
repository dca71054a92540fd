"""Where am I signed in: each of a person's sign-ins with what is connected from it, and how to end either."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.names import MCP_PREFIX, api_audience
from pegboard.core.scopes import SCOPE_TOOLS_READ
from pegboard_hub.identity.clients.names import cleaned, shown
from pegboard_hub.identity.connections.model import Connection
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.browser import HereSession
from pegboard_hub.web.frame import Framer
from pegboard_hub.web.onward import see_other
from pegboard_hub.web.parts import Parts

PATH = "/sessions"
DISCONNECT = f"{PATH}/disconnect"
SIGN_OUT = f"{PATH}/sign-out"

MOST_SIGN_INS = 50
MOST_CONNECTIONS = 100
"""Connections that are shown of one sign-in."""

DONE = {
    "disconnected": "Disconnected. What the program had is void, and you are asked before it comes back.",
    "disconnected-trusted": (
        "Disconnected. What the program had is void. Nobody is asked about it here, so it comes back when it is told "
        "to connect again."
    ),
    "signed-out": "Signed out there. What was connected from it can do nothing more as you, from now on.",
}
"""What was done, by its word in the page's address."""


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One connection: which program, with what, and what it may do."""

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


def session_routes(parts: Parts, framer: Framer) -> APIRouter:
    """The routes of the page."""
    router, identity = APIRouter(), parts.identity

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

    return router


async def _disconnect(parts: Parts, sub: str, named: str) -> str:
    """End a connection, and the person's yes to its client: what was thrown out does not come back unasked.

    Gives the word for what was done.

    Another person's, or one that was ended in another tab, is none of theirs: there is nothing to do.
    """
    identity = parts.identity
    found = next((each for each in await identity.connections.of(sub) if each.connection == named), None)
    if found is None:
        return "disconnected"
    client = await identity.clients.last_known(found.client_id)
    if client is not None:
        await identity.clients.withdraw(sub, client.software)
    await identity.connections.end(found.connection, "disconnected", sub=sub)
    return "disconnected" if client is None or client.asks else "disconnected-trusted"


async def sessions_view(parts: Parts, session: Session, done: str = "") -> SessionsView:
    """A person's sign-ins: this browser's first, then those that were used last."""
    sub = session.facts.sub
    sign_ins = sorted(await parts.identity.sessions.of(sub), key=lambda s: (s.sid == session.sid, s.seen_at_ms))
    shown_ones = sign_ins[::-1][:MOST_SIGN_INS]
    by_sid: dict[str, list[Connection]] = {}
    for connection in await parts.identity.connections.of(sub):
        by_sid.setdefault(connection.sid, []).append(connection)
    newest = {sid: _newest(connected) for sid, connected in by_sid.items()}
    names = await _names(parts, {each.client_id for sign_in in shown_ones for each in newest.get(sign_in.sid, ())})
    views = [
        SignInView(
            sign_in,
            sign_in.sid == session.sid,
            tuple(
                ConnectionView(each, names[each.client_id], _server(parts, each.resource), _may(each.scope))
                for each in newest.get(sign_in.sid, ())
            ),
        )
        for sign_in in shown_ones
    ]
    return SessionsView(tuple(views), len(sign_ins) - len(views), done)


def _newest(connections: list[Connection]) -> list[Connection]:
    return sorted(connections, key=lambda each: each.seen_at_ms, reverse=True)[:MOST_CONNECTIONS]


async def _names(parts: Parts, client_ids: Iterable[str]) -> dict[str, str]:
    found = {client_id: await parts.identity.clients.last_known(client_id) for client_id in client_ids}
    return {id_: shown(cleaned(client.name)) if client else "a program that is gone" for id_, client in found.items()}


def _server(parts: Parts, resource: str) -> str:
    if not resource:
        return "every server"
    if resource == api_audience(parts.public_url):
        return "Pegboard’s API"
    return resource.removeprefix(parts.public_url + MCP_PREFIX)


def _may(scope: str) -> str:
    scopes = scope.split()
    return "only read" if scopes == [SCOPE_TOOLS_READ] else "every tool"
