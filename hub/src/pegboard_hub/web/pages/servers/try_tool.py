"""Try a tool: a form of its arguments, and a call through the edge as who is signed in here.

It is a call like any other: edge and server decide on it, the ledger has it. What is not listed for the person on
the surface `web` is answered as what does not exist, before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.approval import OPEN
from pegboard.core.caller import Caller
from pegboard.core.names import WEB
from pegboard.core.release import ToolDeclaration
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.edge_call import Outcome
from pegboard_hub.web.knowing import listed
from pegboard_hub.web.pages.approvals.looking import PATH as APPROVALS
from pegboard_hub.web.pages.approvals.looking import asks_of, reader_of
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import CLIENT, Frame, Framer, Viewer, with_query
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import Head, framed, head
from pegboard_hub.web.pages.servers.schemas import written
from pegboard_hub.web.pages.servers.tool_form import Field, fields_of, read_form
from pegboard_hub.web.pages.servers.tool_result import Shown, shown_result
from pegboard_hub.web.pages.servers.tools import hints
from pegboard_hub.web.parts import Parts

PATH = f"{SERVER}/try"
SURE = "sure"
"""The field that a second click sends, of a tool that may change things."""

MOST_LOOKED_UP = 3
"""Requests that an answer names, and that are looked up."""

LONGEST_ADDRESS = 4000
"""Characters of an address that browsers and what is between take without fail."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What a call waits for.

    Attributes:
        href: the page of the request.
        asks: who is to say yes, in words.
        decides: whether that is who looks.
        pending: whether it still waits, so that the same call may go on with it.
    """

    href: str
    asks: str
    decides: bool
    pending: bool


@dataclass(frozen=True, slots=True)
class TryView:
    """What the page shows.

    Attributes:
        action: where its forms go.
        asks: whether a second click is wanted; `sending` is what it would send.
        outcome: what came of the call; None before there is one.
        result: of the call, where it has one.
        ledger: address of the call in the ledger.
        explain: address of the same call rule by rule, where it was refused.
        approval: what the call waits for, or was decided on; None where it is about no approval.
    """

    head: Head
    tool: ToolDeclaration
    hints: tuple[str, ...]
    fields: tuple[Field, ...]
    action: str
    asks: bool = False
    sending: str = ""
    outcome: Outcome | None = None
    result: Shown | None = None
    ledger: str = ""
    explain: str = ""
    approval: Waits | None = None

    @property
    def problems(self) -> tuple[Field, ...]:
        """The fields that something is wrong with."""
        return tuple(field for field in self.fields if field.problem)


def add_try_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def form(request: Request, namespace: str, name: str, session: HereSession) -> Response:
        _as_themselves(request, session)
        frame, server = _framed(parts, framer, request, f"{namespace}/{name}", session)
        if "tool" not in request.query_params:
            return see_other(f"/servers/{server.name}/tools")
        view = await _view(parts, frame, server, session, request.query_params["tool"])
        return framer.answer("try.html", frame, view)

    @router.post(PATH)
    async def tried(request: Request, namespace: str, name: str, session: HereSession) -> Response:
        sent = await framer.browsers.form(request)
        _as_themselves(request, session)
        frame, server = _framed(parts, framer, request, f"{namespace}/{name}", session)
        view = await _view(parts, frame, server, session, request.query_params.get("tool", ""))
        view = await _tried(parts, server, session, view, sent)
        return framer.answer("try.html", frame, view, 422 if view.problems else 200)


def _as_themselves(request: Request, session: Session) -> None:
    if request.query_params.get("as", session.facts.sub) != session.facts.sub:
        message = "A tool is tried as who is signed in, whomever pages are shown as."
        raise refuse(403, "access_denied", message, "Leave `as` out of the address.", "as_refused")


def _framed(
    parts: Parts, framer: Framer, request: Request, name: str, session: Session
) -> tuple[Frame, RegisteredServer]:
    frame, server = framed(parts, framer, request, name, "")
    caller = _caller(session)
    mine = Viewer(session.facts.sub, session.facts.name, "", caller, chosen=False)
    return replace(frame, viewer=mine, surface=WEB, title=f"{name}: try a tool"), server


def _caller(session: Session) -> Caller:
    return caller_of(session.facts, WEB, CLIENT)


async def _view(parts: Parts, frame: Frame, server: RegisteredServer, session: Session, name: str) -> TryView:
    """The empty form.

    Raises:
        Refused: nobody can call the server now; or the tool does not exist, or it is not listed for this person here,
            and nobody is told which of the two.
    """
    view = await head(parts, frame, server)
    if not server.reachable:
        raise refuse(403, "not_callable", f"Nobody can call {server.name} now: {view.closed}.", view.ask)
    found = {tool.name: tool for tool in listed(parts, _caller(session), server, WEB)}.get(name)
    if found is None:
        raise _no_tool(server)
    if stopped := server.stopped or server.stopped_tools.get(name, ""):
        raise refuse(403, "stopped", f"{server.name} {name} is stopped: {stopped}.", "Try it again later.")
    return TryView(
        head=view,
        tool=found,
        hints=tuple(hints(found)),
        fields=fields_of(found.input_schema),
        # The tool stands in the address, so that the page of a result can be opened again, too.
        action=with_query(f"/servers/{server.name}/try", [("tool", name)]),
    )


async def _tried(parts: Parts, server: RegisteredServer, session: Session, view: TryView, sent: Form) -> TryView:
    tool = view.tool
    arguments, fields = read_form(view.fields, tool.input_schema, sent)
    view = replace(view, fields=fields)
    if view.problems:
        return view
    if not tool.read_only and sent.get(SURE) != "yes":
        return replace(view, asks=True, sending=written(arguments))
    try:
        issued = await parts.identity.connections.token_of_ours(
            session,
            CLIENT,
            WEB,
            server.name.resource_url(parts.public_url),
            SCOPE_TOOLS_READ if tool.read_only else SCOPE_TOOLS,
        )
    except OAuthRefused as error:
        raise _no_token(error) from error
    outcome = await parts.edge_calls.call(server.name, issued.access_token, tool.name, arguments, tool.input_schema)
    return replace(
        view,
        outcome=outcome,
        result=shown_result(outcome.result, tool.name) if outcome.result is not None else None,
        sending=written(arguments),
        ledger=with_query("/ledger", [("request_id", outcome.request_id)]) if outcome.request_id else "",
        explain=_explained(server, tool, arguments) if outcome.refused and not outcome.approvals else "",
        approval=await _waits(parts, server, session, tool, outcome),
    )


async def _waits(
    parts: Parts, server: RegisteredServer, session: Session, tool: ToolDeclaration, outcome: Outcome
) -> Waits | None:
    """The request that the server says the call waits for, as the hub knows it: a server's word leads nowhere."""
    reader = reader_of(parts, session)
    for id_ in outcome.approvals[:MOST_LOOKED_UP]:
        found = await parts.approvals.find(reader, id_)
        if found is None or (found.person, found.server, found.tool) != (reader.sub, str(server.name), tool.name):
            continue
        pending, decides = found.state in OPEN, parts.approvals.may_decide(reader, found)
        return Waits(f"{APPROVALS}/{found.id}", asks_of(parts, found, reader.sub), decides, pending)
    return None


def _explained(server: RegisteredServer, tool: ToolDeclaration, arguments: Mapping[str, Any]) -> str:
    """Where the call is explained; empty where its arguments are too long for an address."""
    asked = [("server", str(server.name)), ("tool", tool.name), ("on", WEB), ("arguments", json.dumps(arguments))]
    found = with_query("/explain", asked)
    return found if len(found) <= LONGEST_ADDRESS else ""


def _no_tool(server: RegisteredServer) -> Refused:
    """The one answer for a tool that does not exist, and for one that this person may not try here."""
    ask = f"Ask {server.owner} in {server.support_channel}." if server.support_channel else "Ask its owners."
    message = (
        f"No such tool of {server.name} is here for you to try: it does not exist, or it is not open to you here."
    )
    return refuse(404, "tool_unavailable", message, ask)


def _no_token(error: OAuthRefused) -> Refused:
    words: Mapping[str, str] = {
        "temporarily_unavailable": "The company’s login does not answer, so nobody’s groups can be known."
    }
    if error.code == "access_denied":
        raise refuse(403, "stopped", error.description, "Wait until it is resumed.", "stopped")
    message = words.get(error.code, "Your sign-in is over, so nothing can be called as you.")
    return refuse(503 if error.code in words else 403, error.code, message, "Sign in again, then try once more.")
