"""The company's login over HTTP: to the provider, back from it, and what it tells without a browser.

Pages are made by others, who give them (`Pages`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from pegboard_hub.common.requests import read_body
from pegboard_hub.identity.person import LoginRefused, LoginUnavailable, SignedIn
from pegboard_hub.identity.provider.attempt import LIFETIME_S, cookie_of
from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.login import AGAIN_FIELD, BACK_CHANNEL, CALLBACK, SIGN_IN, START, ProviderLogin
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions

log = logging.getLogger(__name__)

FORM_LIMIT = 64 * 1024
"""Bytes of what the provider sends: one signed token."""

MOST_FIELDS = 20
MOST_ATTEMPTS = 12
"""Attempts that one browser may have under way: each has a cookie, and requests with too many are refused."""

AGAIN = "Sign in again; if it stays, tell the platform team."
LATER = "Try again in a minute; if it stays, tell the platform team."

NO_STORE = {"Cache-Control": "no-store"}


class Pages(Protocol):
    """What the routes show people."""

    def onward(self, asked: str | None) -> str:
        """The path of ours that a person goes on to; the home page for anything else."""

    def led_here(self, request: Request, then: str) -> bool:
        """Whether a page of another site led the person to `then`, which takes a click of theirs."""

    async def let_in(self, request: Request, signed_in: SignedIn, then: str) -> Response:
        """Open a session for whom the login told, and go on."""

    async def problem(self, request: Request, status: int, words: str, what_to_do: str, then: str) -> Response:
        """The sign-in page, saying what went wrong at the last try."""


def add_provider_routes(
    router: APIRouter, login: ProviderLogin, sessions: Sessions, cookie: Callable[[str], Cookie], pages: Pages
) -> None:
    """Add the routes.

    Args:
        router: gets them.
        login: the provider.
        sessions: ended when the provider says so.
        cookie: a cookie of this instance for a purpose.
        pages: what people see.
    """
    _add_browser(router, login, cookie, pages)
    _add_back_channel(router, login, sessions)


def _add_browser(router: APIRouter, login: ProviderLogin, cookie: Callable[[str], Cookie], pages: Pages) -> None:
    @router.get(START)
    async def start(request: Request) -> Response:
        then = pages.onward(request.query_params.get("continue"))
        if pages.led_here(request, then):
            return RedirectResponse(f"{SIGN_IN}?{urlencode({'continue': then})}", 303, NO_STORE)
        try:
            begun = await login.begin(then, again=AGAIN_FIELD in request.query_params)
        except (LoginUnavailable, LoginRefused) as error:
            return await _told(pages, request, error, then)
        response = RedirectResponse(begun.url, 303, NO_STORE)
        _forget_old(request, response, cookie)
        cookie(begun.cookie).set(response, begun.sealed, LIFETIME_S)
        return response

    @router.get(CALLBACK)
    async def callback(request: Request) -> Response:
        answer = _single(request.url.query)
        own = cookie(cookie_of(answer.get("state", "")))
        try:
            completed = await login.complete(answer, own.read(request))
        except (LoginUnavailable, LoginRefused) as error:
            response = await _told(pages, request, error, "/")
        else:
            response = await pages.let_in(request, completed.signed_in, completed.continue_to)
        own.clear(response)
        return response


def _add_back_channel(router: APIRouter, login: ProviderLogin, sessions: Sessions) -> None:
    @router.post(BACK_CHANNEL)
    async def signed_out(request: Request) -> Response:
        """OpenID Connect Back-Channel Logout 1.0 §2.5, §2.8."""
        form = _single((await read_body(request, FORM_LIMIT)).decode("utf-8", "replace"))
        try:
            told = await login.signed_out(form.get("logout_token", ""))
        except LoginUnavailable as error:
            return JSONResponse({"error": "temporarily_unavailable", "error_description": str(error)}, 503, NO_STORE)
        except LoginRefused as error:
            log.warning("a sign-out is not believed", extra={"why": _why(error)})
            return JSONResponse({"error": "invalid_request", "error_description": _why(error)}, 400, NO_STORE)
        await sessions.end_by_login(subject=told.subject, session=told.session, why="login")
        login.acted_on(told)
        return Response(status_code=200, headers=NO_STORE)


async def _told(pages: Pages, request: Request, error: LoginUnavailable | LoginRefused, then: str) -> Response:
    if isinstance(error, LoginUnavailable):
        return await pages.problem(request, 503, str(error), LATER, then)
    log.warning("nobody was signed in", extra={"why": _why(error)})
    return await pages.problem(request, 403, str(error), AGAIN, then)


def _why(error: LoginRefused) -> str:
    return error.why if isinstance(error, Unbelievable) else str(error)


def _single(text: str) -> Mapping[str, str]:
    """Parameters that came once; one that came twice is none, so that nobody can read it another way than we do."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


def _forget_old(request: Request, response: Response, cookie: Callable[[str], Cookie]) -> None:
    """Take a browser's earlier attempts away where there are too many."""
    prefix = cookie("sign-in-").name
    old = [name for name in request.cookies if name.startswith(prefix)]
    for name in old if len(old) >= MOST_ATTEMPTS else ():
        cookie(f"sign-in-{name.removeprefix(prefix)}").clear(response)
