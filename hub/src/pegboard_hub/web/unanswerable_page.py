"""Pages for authorization requests that are not answered to their client, or not yet.

Where it is not known who asks, or where the answer should go is not theirs, the person is told, and nothing on the
page leads there (RFC 6749 §4.1.2.1). Where a page of another site led the person here, a click of theirs goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from pegboard_hub.common.requests import request_id
from pegboard_hub.identity.clients.names import shown
from pegboard_hub.web.frame import Framer, OnwardView, RefusalView, wants_page

LONGEST_TOLD = 200
"""Characters of what the request says that the page repeats."""

_TOLD = {"client_id": "It says it is", "redirect_uri": "The answer should go to", "resource": "It is for"}

WHAT_TO_DO = (
    "If you started this yourself: remove Pegboard from that program and add it again, so that it makes itself known "
    "anew; if this stays, tell the platform team the request id below. If you did not start anything, close the page."
)


def unanswerable(framer: Framer) -> Callable[[Request, str, str], Awaitable[Response]]:
    """What makes the page, from an OAuth error's code and words; programs get the two as JSON."""

    async def page(request: Request, code: str, words: str) -> Response:
        if not wants_page(request):
            body = {"error": code, "error_description": words}
            return JSONResponse(body, 400, {"Cache-Control": "no-store"})
        await framer.browsers.visit(request)
        asked = request.query_params
        told = {label: shown(asked[name][:LONGEST_TOLD]) for name, label in _TOLD.items() if asked.get(name)}
        view = RefusalView(
            message="A program asked to be connected, and Pegboard cannot answer it. Nothing was sent to it.",
            what_to_do=WHAT_TO_DO,
            code=code,
            reason=shown(words[:LONGEST_TOLD]),
            request_id=request_id(request),
            facts=told,
        )
        return framer.answer("refused.html", framer.bare(request, "This cannot be connected"), view, 400)

    return page


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
