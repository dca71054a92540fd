"""Letting a registered surface act for oneself, and taking that back: each person for themselves, in a browser.

The operator vouches for the surface and sets its limits; that it acts for *somebody* is for that person alone to say.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.names import ServerName, exchange_audience
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.clients.model import Standing
from pegboard_hub.identity.connections.model import Connection
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.forms import single
from pegboard_hub.identity.oauth.provider import ACTING, AUTHORIZE
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.identity.surfaces.model import ActingSurface
from pegboard_hub.registry.explain import reaches
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.parts import Parts

log = logging.getLogger(__name__)

MOST_SERVERS = 40
TITLE = "Act for you"

WORDS = {"chat": "a chat", "bot": "a bot in its channels"}
"""What calls count as that come from each."""

DONE = {
    "allowed": "From now on it may act for you.",
    "ended": "It acts for you no more. What it had is void at once.",
    "denied": "Nothing was allowed.",
}


@dataclass(frozen=True, slots=True)
class ActingView:
    """What the page shows.

    Attributes:
        words: as what its calls count.
        request: the authorization request that goes on with a yes; empty where the surface sent none.
        since_ms: since when it may act for the person from this sign-in; None where it may not.
        servers: that are open to the person from there, of those that it may reach.
        covered: whether it may act for anybody in the groups that the person is in.
        until_ms: when the sign-in, and so the yes, ends at the latest.
    """

    surface: ActingSurface
    words: str
    request: str
    since_ms: int | None
    only_reads: bool
    servers: tuple[str, ...]
    more_servers: int
    covered: bool
    until_ms: int
    done: str


def add_acting_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(ACTING)
    async def ask(request: Request, session: HereSession) -> Response:
        asked = request.query_params
        surface = await _surface(parts, asked.get("client", ""))
        if asked.get("request"):
            _read(asked["request"], surface)
        done = DONE.get(asked.get("done", ""), "")
        view = await _view(parts, session, surface, asked.get("request", ""), done)
        return framer.answer("acting.html", framer.frame(request, ACTING, TITLE), view)

    @router.post(ACTING)
    async def answer(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        surface = await _surface(parts, form.get("client", ""))
        onward = form.get("request", "")
        request_of = _read(onward, surface) if onward else {}
        said = form.get("answer", "")
        facts = {"sub": session.facts.sub, "client_id": surface.client_id, "sid": session.sid}
        if said == "allow":
            scope = SCOPE_TOOLS if form.get("scope") == SCOPE_TOOLS else SCOPE_TOOLS_READ
            await _allow(parts, session, surface, scope, with_connection=not onward)
            log.info("surface let act", extra={**facts, "scope": scope})
            if onward:
                words = "You allowed it. The way goes on to the surface."
                return framer.onward(
                    request, "Connected", words, f"{AUTHORIZE}?{urlencode(request_of | {'scope': scope})}"
                )
        elif said == "end":
            await _end(parts, session, surface)
            log.info("surface acts no more", extra=facts)
        word = {"allow": "allowed", "end": "ended"}.get(said, "denied")
        return see_other(f"{ACTING}?client={surface.client_id}&done={word}")


async def _surface(parts: Parts, client_id: str) -> ActingSurface:
    """The surface that is asked about.

    Raises:
        Refused: there is none, or the operators have blocked it.
    """
    found = parts.identity.surfaces.current.get(client_id)
    client = await parts.identity.clients.get(client_id) if found is not None else None
    if found is None or client is None or client.standing is Standing.BLOCKED:
        raise _no_surface()
    return found


def _no_surface() -> Refused:
    message = "No surface of that name acts for people here."
    return refuse(404, "unknown_surface", message, "Ask whoever runs the chat or bot that sent you.")


async def _allow(
    parts: Parts, session: Session, surface: ActingSurface, scope: str, *, with_connection: bool
) -> None:
    """Keep the person's yes, in the place of what they said before from this sign-in."""
    identity = parts.identity
    await _end(parts, session, surface)
    await identity.clients.consent(session.facts.sub, surface.client_id, scope)
    if with_connection:
        await identity.connections.open(session, surface.client, exchange_audience(parts.public_url), scope)


async def _end(parts: Parts, session: Session, surface: ActingSurface) -> None:
    """Take the yes back, and end what came of it from every sign-in of the person's."""
    identity = parts.identity
    await identity.clients.withdraw(session.facts.sub, surface.client_id)
    for connection in await _connected(parts, session, surface):
        await identity.connections.end(connection.connection, "disconnected", session.facts.sub)


async def _connected(parts: Parts, session: Session, surface: ActingSurface) -> list[Connection]:
    found = await parts.identity.connections.of(session.facts.sub)
    return [each for each in found if each.client_id == surface.client_id]


async def _view(parts: Parts, session: Session, surface: ActingSurface, request: str, done: str) -> ActingView:
    connected = await _connected(parts, session, surface)
    servers = tuple(_servers(parts, session, surface))
    return ActingView(
        surface=surface,
        words=WORDS[surface.surface],
        request=request,
        since_ms=min((each.opened_at_ms for each in connected), default=None),
        only_reads=all(each.scope == SCOPE_TOOLS_READ for each in connected),
        servers=servers[:MOST_SERVERS],
        more_servers=max(len(servers) - MOST_SERVERS, 0),
        covered=surface.acts_for(session.facts.groups),
        until_ms=session.expires_at_ms,
        done=done,
    )


def _servers(parts: Parts, session: Session, surface: ActingSurface) -> list[str]:
    """The servers that the surface could reach for the person now, in one of its channels where it is a bot."""
    places = surface.channels or (None,)
    callers = [caller_of(session.facts, surface.surface, surface.client_id, place) for place in places]
    return [
        str(server.name)
        for server in parts.registry.current.all_deployed
        if surface.opens(ServerName.parse(str(server.name)))
        and any(reaches(caller, server, parts.public_url) for caller in callers)
    ]


def _read(query: str, surface: ActingSurface) -> dict[str, str]:
    """The authorization request that goes on with a yes: of this surface, and of no other client.

    Raises:
        Refused: it cannot be read, or is another's: a link of somebody else's put it there.
    """
    try:
        form = single(parse_qsl(query, keep_blank_values=True))
    except (OAuthRefused, ValueError) as error:
        raise refuse(400, "invalid_request", "The request cannot be read.", "Start again from the chat.") from error
    if form.get("client_id") != surface.client_id:
        message = "The request that should go on from here is another program’s."
        raise refuse(400, "invalid_request", message, "Start again from the chat.")
    return dict(form)
