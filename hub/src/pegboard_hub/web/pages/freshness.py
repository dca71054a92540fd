"""What a page may still show: a session lives for days, and what the login said of its person does not."""

from __future__ import annotations

import time
from dataclasses import replace

from fastapi import Request

from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.person import LoginUnavailable
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.identity.sessions.service import SessionEnded
from pegboard_hub.web.pages.browser import SignInNeeded, signed_in, visitor
from pegboard_hub.web.parts import Parts


async def told_now(parts: Parts, request: Request, session: Session, at_most_s: float | None = None) -> Session:
    """The session with the facts that the login tells now.

    Args:
        parts: of the hub.
        request: that wants to know.
        session: whose.
        at_most_s: how old the facts may be, in seconds; None for as old as a token's.

    Raises:
        SignInNeeded: the sign-in has ended meanwhile, or the login says so.
        Refused: the login does not answer.
    """
    try:
        return await parts.identity.sessions.current(session.sid, at_most_s)
    except SessionEnded as error:
        raise SignInNeeded(request) from error
    except LoginUnavailable as error:
        raise _away() from error


async def keep_fresh(parts: Parts, request: Request) -> None:
    """See to it that a page is shown as the login says, or said no longer ago than a token lives.

    Raises:
        SignInNeeded: nobody is signed in any more.
        Refused: the login has not answered for so long.
    """
    session = signed_in(request)
    try:
        session = await told_now(parts, request, session)
    except Refused:
        if time.time() - session.facts_at_ms / 1000 >= parts.settings.token_lifetime_s:
            raise
    request.state.visitor = replace(visitor(request), session=session)


def _away() -> Refused:
    message = "The company’s login does not answer, so nobody’s groups can be known."
    return refuse(503, "temporarily_unavailable", message, "Try again in a moment.")
