"""Pages for authorization requests that are not answered to their client, or not yet.

Where it is not known who asks, or where the answer should go is not theirs, the person is told, and nothing on the
page leads there (RFC 6749 §4.1.2.1). Where a page of another site led the person here, a click of theirs goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from pegboard_hub.common.requests import request_id
from pegboard_hub.identity.clients.model import Client, Standing
from pegboard_hub.identity.clients.names import cleaned, shown
from pegboard_hub.web.pages.frame import Framer, OnwardView, RefusalView, wants_page
from pegboard_hub.web.parts import Parts

LONGEST_TOLD = 200
"""Characters of what the request says that the page repeats."""

_TOLD = {"client_id": "It says it is", "redirect_uri": "The answer should go to", "resource": "It is for"}


@dataclass(frozen=True, slots=True)
class Words:
    """What a person is told."""

    title: str
    message: str
    what_to_do: str


CANNOT = Words(
    "This cannot be connected",
    "A program asked to be connected, and Pegboard cannot answer it. Nothing was sent to it.",
    "If you started this yourself: remove Pegboard from that program and add it again, so that it makes itself known "
    "anew; if this stays, tell the platform team the request id below. If you did not start anything, close the "
    "page.",
)
BLOCKED = Words(
    "This program is blocked",
    "Nothing was sent to it. The platform team has blocked",
    "Adding it again changes nothing. If you need it, ask the platform team why it is blocked, with the request id "
    "below.",
)


def unanswerable(parts: Parts, framer: Framer) -> Callable[[Request, str, str], Awaitable[Response]]:
    """What makes the page, from an OAuth error's code and words; programs get the two as JSON."""

    async def page(request: Request, code: str, words: str) -> Response:
        if not wants_page(request):
            body = {"error": code, "error_description": words}
            return JSONResponse(body, 400, {"Cache-Control": "no-store"})
        await framer.browsers.visit(request)
        client = await parts.identity.clients.get(request.query_params.get("client_id", ""))
        blocked = client is not None and client.standing is Standing.BLOCKED
        told = BLOCKED if blocked else CANNOT
        view = RefusalView(
            message=told.message,
            what_to_do=told.what_to_do,
            code=code,
            reason=shown(words[:LONGEST_TOLD]),
            request_id=request_id(request),
            facts=_facts(request.query_params, client),
            whom=shown(cleaned(client.name)) if client and blocked else "",
        )
        return framer.answer("refused.html", framer.bare(request, told.title), view, 400)

    return page


def _facts(asked: Mapping[str, str], client: Client | None) -> dict[str, str]:
    """What the request says, by label. Of a client that is known, its name tells a person more than its id."""
    told = {label: asked[name][:LONGEST_TOLD] for name, label in _TOLD.items() if asked.get(name)}
    if client is not None:
        told[_TOLD["client_id"]] = cleaned(client.name)
    return {label: shown(text) for label, text in told.items()}


LED_HERE = (
    "A page of another site sent you here, to connect a program on your machine with Pegboard as you. Go on only if "
    "you started that yourself a moment ago; otherwise close this page, and nothing is connected."
)


def led_here(framer: Framer) -> Callable[[Request, str], Awaitable[Response]]:
    """What makes the page from which a person goes on to `then` by a click."""

    async def page(request: Request, then: str) -> Response:
        await framer.browsers.visit(request)
        view = OnwardView(then, LED_HERE, by_itself=False)
        return framer.answer("onward.html", framer.bare(request, "Connect a program?"), view)

    return page
