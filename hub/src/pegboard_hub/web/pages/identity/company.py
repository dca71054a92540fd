"""The company's login on pages: what people see on the way to the provider and back, and on the way out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard_hub.identity.person import SignedIn
from pegboard_hub.identity.provider.api import add_provider_routes
from pegboard_hub.identity.provider.login import ProviderLogin
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.identity.sign_in import SignInView, ask_to_sign_in, led_to, let_in
from pegboard_hub.web.pages.onward import onward
from pegboard_hub.web.parts import Parts


class CompanyPages:
    """The pages around the provider's own."""

    def __init__(self, parts: Parts, framer: Framer) -> None:
        self._parts = parts
        self._framer = framer

    def onward(self, asked: str | None) -> str:
        """The path of ours that a person goes on to; the home page for anything else."""
        return onward(asked)

    def led_here(self, request: Request, then: str) -> bool:
        """Whether a page of another site led the person to `then`, which takes a click of theirs."""
        return led_to(self._parts, request, then)

    async def let_in(self, request: Request, signed_in: SignedIn, then: str) -> Response:
        """Open a session for whom the login told, and go on."""
        return await let_in(self._parts, self._framer, request, signed_in, then)

    async def problem(self, request: Request, status: int, words: str, what_to_do: str, then: str) -> Response:
        """The sign-in page, saying what went wrong at the last try."""
        view = SignInView(then, problem=words, what_to_do=what_to_do)
        return ask_to_sign_in(self._framer, request, view, status)


def add_company_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the company's login; none where people are those of the demo directory."""
    login, own = parts.identity.sessions.login, parts.identity.cookie
    if not isinstance(login, ProviderLogin):
        return

    def cookie(purpose: str) -> Cookie:
        return Cookie(f"{own.name}_{purpose}", own.secure)

    add_provider_routes(router, login, parts.identity.sessions, cookie, CompanyPages(parts, framer))
