"""Who is signed in, at the internal door: the operator looks, and signs a person out of everything."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from pegboard_hub.common.requests import read_json, refuse
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.internal.operator import check_operator
from pegboard_hub.web.parts import Parts

MOST_SESSIONS = 200
"""Sessions that are listed at once; who looks for more names a person."""

BODY_LIMIT = 4 * 1024
LONGEST_PERSON = 320


class SessionWord(BaseModel):
    """One session. Times are milliseconds since the epoch."""

    sub: str
    name: str
    email: str | None
    groups: tuple[str, ...]
    device: str
    opened_at_ms: int
    seen_at_ms: int
    expires_at_ms: int

    @classmethod
    def of(cls, session: Session) -> SessionWord:
        """What the operator is told of a session."""
        facts = session.facts
        times = {name: getattr(session, name) for name in ("opened_at_ms", "seen_at_ms", "expires_at_ms")}
        return cls(
            sub=facts.sub, name=facts.name, email=facts.email, groups=facts.groups, device=session.device, **times
        )


class SessionsWord(BaseModel):
    """The answer to the operator."""

    sessions: list[SessionWord]
    more: bool = Field(default=False, description="whether there are others beside those")


def session_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/sessions`."""
    router = APIRouter(prefix="/internal/v1/sessions", include_in_schema=False)

    @router.get("")
    async def look(request: Request, person: str | None = None) -> SessionsWord:
        check_operator(parts, request)
        found = await parts.identity.sessions.called(person, MOST_SESSIONS + 1)
        words = [SessionWord.of(session) for session in found[:MOST_SESSIONS]]
        return SessionsWord(sessions=words, more=len(found) > MOST_SESSIONS)

    @router.post("/end")
    async def end(request: Request) -> SessionsWord:
        check_operator(parts, request)
        body = await read_json(request, BODY_LIMIT)
        person = body.get("person") if isinstance(body, dict) else None
        if not isinstance(person, str) or not 0 < len(person) <= LONGEST_PERSON:
            raise refuse(422, "invalid_request", "person: it is no id or e-mail address.", "Name the person.")
        ended = await parts.identity.sessions.end_of_called(person, "operator")
        return SessionsWord(sessions=[SessionWord.of(session) for session in ended])

    return router
