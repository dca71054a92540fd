"""Typing a program's code: what would be connected, who asked from where, and a yes or a no (RFC 8628 §3.3, §5).

The program may be anybody's: whoever starts a sign-in elsewhere and has somebody else type its code is signed in as
them (§5.4). So nothing is connected without a yes, and no address fills the code in.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.names import MCP_PREFIX, api_audience
from pegboard.core.scopes import SCOPE_TOOLS_READ
from pegboard_hub.identity.clients.model import Client, ClientKind, Standing
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.identity.connections.devices import TooManyGuesses, Waiting, shown_code
from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.identity.oauth.device import PAGE, address_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.browser import HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.parts import Parts

ANSWER = f"{PAGE}/answer"
TITLE = "Connect by code"

DONE = {
    "allowed": "Connected. Your terminal goes on by itself; you may close this page.",
    "denied": "Nothing was connected, and the code is no longer good.",
}
"""What was done, by its word in the page's address."""

NO_CODE = "No program waits with this code."
LOOK_AGAIN = "Look at the code again: it is good for ten minutes, and for one answer."

SAME = "The same address as this browser’s."
OURS = "The machine that Pegboard runs on."
OTHER = "Another address than this browser’s. Is that the machine you sit at, or reach from here?"
PROXIED = "The proxy in front of Pegboard: where it asked from is not known."
"""What an address is that a program asked from."""


@dataclass(frozen=True, slots=True)
class AskView:
    """The page on which a code is typed.

    Attributes:
        typed: what was typed before.
        problem: what was wrong with it; empty where nothing was.
        done: what has just been done.
    """

    typed: str = ""
    problem: str = ""
    what_to_do: str = ""
    done: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmView:
    """The page that asks for a yes or a no.

    Attributes:
        code: as people read it.
        name: the client's; `ours` when it is Pegboard's own.
        program: what the program calls itself; untrusted.
        minutes: how long ago it asked.
        address: from where; empty when that is not known.
        here: whether that is the machine that Pegboard runs on.
        about_address: what to make of it.
        reaches: the server; empty for all that are open to the person.
        only_reads: whether it asks for tools that change nothing alone.
        until_ms: when the sign-in, and so the connection, ends at the latest.
    """

    code: str
    name: str
    ours: bool
    program: str
    minutes: int
    address: str
    here: bool
    about_address: str
    surface: str
    reaches: str
    only_reads: bool
    until_ms: int


def add_device_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""
    identity = parts.identity

    def ask(request: Request, view: AskView, status: int = 200) -> Response:
        return framer.answer("device.html", framer.frame(request, PAGE, TITLE), view, status)

    @router.get(PAGE)
    async def type_code(request: Request, _session: HereSession) -> Response:
        return ask(request, AskView(done=DONE.get(request.query_params.get("done", ""), "")))

    @router.post(PAGE)
    async def look(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        typed = form.get("user_code", "")
        found = await _find(parts, typed, session)
        if isinstance(found, AskView):
            return ask(request, found, 429 if found.problem != NO_CODE else 404)
        view = _confirm(parts, request, session, *found)
        return framer.answer("device_confirm.html", framer.frame(request, PAGE, TITLE), view)

    @router.post(ANSWER)
    async def answer(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        found = await _find(parts, form.get("user_code", ""), session)
        if isinstance(found, AskView):
            return ask(request, found, 429 if found.problem != NO_CODE else 404)
        waiting, client = found
        allowed = form.get("answer") == "allow"
        settled = await (
            identity.devices.allow(waiting, client, session) if allowed else identity.devices.deny(waiting, session)
        )
        if not settled:
            return ask(request, AskView(problem=NO_CODE, what_to_do=LOOK_AGAIN), 404)
        return see_other(f"{PAGE}?done={'allowed' if allowed else 'denied'}")


async def _find(parts: Parts, typed: str, session: Session) -> tuple[Waiting, Client] | AskView:
    """What waits with a code, or the page that says why nothing does."""
    try:
        waiting = await parts.identity.devices.find(typed, session)
    except TooManyGuesses as error:
        minutes = max(1, round(error.again_in_s / 60))
        words = f"Try again in {minutes} {'minute' if minutes == 1 else 'minutes'}."
        return AskView(typed[:64], "Too many codes that nobody waits with.", words)
    client = await parts.identity.clients.get(waiting.client_id) if waiting else None
    if waiting is None or client is None or client.standing is Standing.BLOCKED:
        return AskView(typed[:64], NO_CODE, LOOK_AGAIN)
    return waiting, client


def _confirm(parts: Parts, request: Request, session: Session, waiting: Waiting, client: Client) -> ConfirmView:
    here = _is_of_this_machine(waiting.asked_from)
    return ConfirmView(
        code=shown_code(waiting.user_code),
        name=shown(client.name),
        ours=client.kind is ClientKind.FIRST_PARTY,
        program=shown(waiting.asked_by),
        minutes=int(time.time() * 1000 - waiting.asked_at_ms) // 60_000,
        address=shown(waiting.asked_from),
        here=here and is_loopback(parts.public_url),
        about_address=_about(waiting.asked_from, address_of(request), parts.public_url, here),
        surface=client.surface,
        reaches=_server(parts, waiting.resource),
        only_reads=waiting.scope.split() == [SCOPE_TOOLS_READ],
        until_ms=session.expires_at_ms,
    )


def _about(asked_from: str, browser: str, public_url: str, here: bool) -> str:
    """What the address is that a program asked from.

    Where others reach Pegboard, what comes from its own machine is what a proxy there passes on, and everybody's
    address is the same.
    """
    if here and not is_loopback(public_url):
        return PROXIED
    return SAME if asked_from == browser else OURS if here else OTHER


def _is_of_this_machine(address: str) -> bool:
    """Whether it is one of the addresses of the machine that the hub runs on: others cannot be bound to."""
    try:
        found = ipaddress.ip_address(address)
        if found.is_unspecified or found.is_multicast:
            return False
        family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((address, 0))
    except (ValueError, OSError):
        return False
    return True


def _server(parts: Parts, resource: str) -> str:
    if resource == api_audience(parts.public_url):
        return "Pegboard’s API"
    return resource.removeprefix(parts.public_url + MCP_PREFIX)
