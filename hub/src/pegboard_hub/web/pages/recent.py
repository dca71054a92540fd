"""What counts only from somebody who has just proved who they are: deciding for others, and widening access."""

from __future__ import annotations

import time
from collections.abc import Iterable
from urllib.parse import urlencode

from fastapi import Request

from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.browser import SignInNeeded
from pegboard_hub.web.pages.onward import onward, sign_in_again_path

RECENT_S = 15 * 60
"""Seconds since a person proved who they are, in which they may decide."""


class SignInAgainNeeded(SignInNeeded):
    """Something that counts only shortly after signing in; it is answered with the way to the sign-in page."""

    def __init__(self, request: Request, then: str) -> None:
        super().__init__(request)
        self.location = sign_in_again_path(onward(then))


def with_filled_in(path: str, fields: Iterable[tuple[str, str]]) -> str:
    """The address of a page with what was filled in there, so that signing in again loses none of it.

    What is longer than an address of ours can be is left out.
    """
    said = urlencode([(name, value) for name, value in fields if value])
    filled = f"{path}{'&' if '?' in path else '?'}{said}"
    return filled if said and onward(filled) == filled else path


def is_recent(session: Session) -> bool:
    """Whether the person of a session has just proved who they are."""
    return 0 <= time.time() - session.authenticated_at_ms / 1000 <= RECENT_S


def recently_authenticated(request: Request, session: Session, then: str) -> Session:
    """The session, of somebody who has just proved who they are.

    Args:
        request: that would decide something.
        session: of the browser that it comes from.
        then: the path of the page with the form, where the person goes on to after signing in again. What was
            asked for is not done by that.

    Raises:
        SignInAgainNeeded: it was too long ago.
    """
    if not is_recent(session):
        raise SignInAgainNeeded(request, then)
    return session
