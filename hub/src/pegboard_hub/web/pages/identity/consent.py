"""Saying yes to a client: what it will be able to do as the person, where its answer goes, and for how long.

What the client says of itself is a stranger's text. What counts is where its answer goes, and on the person's own
machine that can be any program (MCP authorization, Localhost Redirect URI Risks; RFC 8252 §8.6).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from mcp.server.auth.provider import construct_redirect_uri
from mcp.shared.auth import InvalidRedirectUriError

from pegboard.core.caller import Caller
from pegboard.core.names import MCP_PREFIX
from pegboard.core.redirects import is_loopback_redirect
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.identity.clients.model import Client, Standing
from pegboard_hub.identity.clients.names import cleaned, shown
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.oauth.forms import Form, single
from pegboard_hub.identity.oauth.provider import Asked, KnownClient
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.explain import reaches, visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.identity.strangers import poses_as_us
from pegboard_hub.web.pages.identity.unanswerable import unanswerable
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.parts import Parts

log = logging.getLogger(__name__)

PATH = "/consent"
AUTHORIZE = "/oauth/authorize"
MOST_TOOLS = 40
MOST_SERVERS = 40

SURFACES = {
    "cli": "a program in a terminal",
    "ide": "an editor",
    "chat": "a chat",
    "bot": "a bot in its channels",
    "web": "Pegboard’s own pages",
}
"""What calls count as that come from each surface."""


class Warned(NamedTuple):
    """Something to know before saying yes."""

    title: str
    text: str


class ToolView(NamedTuple):
    """One tool that the client will reach."""

    name: str
    title: str
    reads: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """An authorization request that waits for a yes.

    Attributes:
        query: as the client sent it.
        redirect_uri: where the answer goes; one that the client is registered with.
        scope: what was asked for, of what there is.
    """

    query: str
    form: Form
    client: Client
    redirect_uri: str
    server: RegisteredServer
    scope: str

    @property
    def wide(self) -> bool:
        """Whether the client asks for all tools, not only for those that read."""
        return SCOPE_TOOLS in self.scope.split()

    def onward(self, scope: str) -> str:
        """The request once more, for the authorization endpoint, with the scope that the person said yes to."""
        return f"{AUTHORIZE}?{urlencode({**self.form, 'scope': scope})}"

    def denied(self, issuer: str) -> str:
        """Where a no goes (RFC 6749 §4.1.2.1, RFC 9207 §2)."""
        words = "the person did not allow it"
        state = self.form.get("state")
        return construct_redirect_uri(
            self.redirect_uri, error="access_denied", error_description=words, state=state, iss=issuer
        )


@dataclass(frozen=True, slots=True)
class ConsentView:
    """What the page shows.

    Attributes:
        name: what the client calls itself; untrusted.
        place: where its answer goes, in words.
        surface: as which its calls count, with `surface_words`.
        until_ms: when the sign-in, and so the connection, ends at the latest.
        tools: of the server that the request names; `more_tools` is how many more there are.
        others: the other servers that the yes is for too, as far as they are open to the person from there.
    """

    pending: Pending
    name: str
    place: str
    warnings: tuple[Warned, ...]
    surface: str
    surface_words: str
    until_ms: int
    tools: tuple[ToolView, ...]
    more_tools: int
    others: tuple[str, ...]


class Unconsentable(Exception):
    """A request that nobody can say yes to, with an OAuth error's code and words."""

    def __init__(self, code: str, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


def add_consent_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""
    explain = unanswerable(parts, framer)

    @router.get(PATH)
    async def ask(request: Request, session: HereSession) -> Response:
        try:
            pending = await _pending(parts, request.url.query)
        except Unconsentable as error:
            return await explain(request, error.code, error.words)
        if not pending.client.asks:
            return see_other(f"{AUTHORIZE}?{pending.query}")
        view = _view(parts, session, pending)
        return framer.answer("consent.html", framer.frame(request, PATH, "Connect a program"), view)

    @router.post(PATH)
    async def answer(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        try:
            pending = await _pending(parts, form.get("request", ""))
        except Unconsentable as error:
            return await explain(request, error.code, error.words)
        said = {"sub": session.facts.sub, "client_id": pending.client.client_id, "sid": session.sid}
        if form.get("answer") != "allow":
            log.info("client not allowed", extra=said)
            words = "Nothing was allowed, and the program is told so."
            return framer.onward(request, "Not connected", words, pending.denied(parts.public_url))
        scope = SCOPE_TOOLS if pending.wide and form.get("scope") == SCOPE_TOOLS else SCOPE_TOOLS_READ
        await parts.identity.clients.consent(session.facts.sub, pending.client.software, scope)
        log.info("client allowed", extra={**said, "scope": scope})
        words = "You allowed it. The way goes on to the program."
        return framer.onward(request, "Connected", words, pending.onward(scope))


async def _pending(parts: Parts, query: str) -> Pending:
    """The request of a query, looked at anew: what the browser brings back is no more than what a link could say.

    Raises:
        Unconsentable: client or redirect is not known, or the request is for none of the servers.
    """
    try:
        form = single(parse_qsl(query, keep_blank_values=True))
        client = await parts.identity.clients.get(form.needed("client_id"))
        if client is None or client.standing is Standing.BLOCKED:
            raise Unconsentable("invalid_request", "the client is not known here")
        redirect_uri = _redirect(parts, client, form)
        server = _server(parts, form.needed("resource"))
        return Pending(query, form, client, redirect_uri, server, _scope(parts, form))
    except OAuthRefused as error:
        raise Unconsentable(error.code, error.description) from error
    except ValueError as error:
        raise Unconsentable("invalid_request", "the query cannot be read") from error


def _redirect(parts: Parts, client: Client, form: Form) -> str:
    """Where the answer goes, by the authorization endpoint's own rule."""
    try:
        return KnownClient.of(client, Asked(form=form), parts.public_url).redirect()
    except InvalidRedirectUriError as error:
        raise Unconsentable("invalid_request", error.message) from error


def _server(parts: Parts, resource: str) -> RegisteredServer:
    name = resource.removeprefix(parts.public_url + MCP_PREFIX)
    found = parts.registry.current.deployed(name)
    if found is None or found.name.resource_url(parts.public_url) != resource:
        raise Unconsentable("invalid_target", "the request is for none of the servers here")
    return found


def _scope(parts: Parts, form: Form) -> str:
    return parts.identity.issuer.scope_for(form.needed("resource"), form.get("scope"))


def _view(parts: Parts, session: Session, pending: Pending) -> ConsentView:
    client = pending.client
    caller = caller_of(session.facts, client.surface, client.client_id)
    tools = tuple(_tools(parts, caller, pending.server))
    place, warning = _place(pending.redirect_uri)
    poses = Warned("This is not Pegboard’s own.", "It only calls itself something like it, as anybody can.")
    return ConsentView(
        pending=pending,
        name=shown(cleaned(client.name)),
        place=place,
        warnings=tuple(each for each in (poses if poses_as_us(client.name) else None, warning) if each),
        surface=client.surface,
        surface_words=SURFACES.get(client.surface, client.surface),
        until_ms=session.expires_at_ms,
        tools=tools[:MOST_TOOLS],
        more_tools=max(len(tools) - MOST_TOOLS, 0),
        others=tuple(_others(parts, caller, pending.server))[:MOST_SERVERS],
    )


def _tools(parts: Parts, caller: Caller, server: RegisteredServer) -> Iterator[ToolView]:
    for tool in visible_tools(caller, server, parts.public_url):
        yield ToolView(tool.name, tool.title or tool.name, tool.read_only)


def _others(parts: Parts, caller: Caller, server: RegisteredServer) -> Iterator[str]:
    for other in parts.registry.current.all_deployed:
        if other.name != server.name and reaches(caller, other, parts.public_url):
            yield str(other.name)


def _place(redirect_uri: str) -> tuple[str, Warned | None]:
    """Where an answer goes in words, and what to know of such a place."""
    title = "Did you start this yourself, a moment ago?"
    if is_loopback_redirect(redirect_uri):
        text = (
            "The answer goes to a program on this machine, and any program here can ask under any name. "
            "If you did not start it, say no."
        )
        return "a program on this machine", Warned(title, text)
    parts = urlsplit(redirect_uri)
    if parts.scheme == "https":
        return f"{parts.hostname}, a web site", None
    text = (
        f"The answer goes to whatever program on this machine opens addresses that begin with {parts.scheme}: "
        "and several can claim them. If you did not start it, say no."
    )
    return f"a program on this machine that opens {parts.scheme}: addresses", Warned(title, text)
