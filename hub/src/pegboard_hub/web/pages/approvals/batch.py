"""A request with its batch, as somebody may see it: what of it waits for them, and what they may do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from pegboard.core.approval import OPEN, State
from pegboard_hub.approvals.deciding import AGAIN
from pegboard_hub.approvals.model import Reader
from pegboard_hub.approvals.model import Request as Asked
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.approvals.looking import reader_of
from pegboard_hub.web.parts import Parts

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Found:
    """A request as somebody may see it, with its batch."""

    reader: Reader
    request: Asked
    beside: tuple[Asked, ...]

    @property
    def batch(self) -> tuple[Asked, ...]:
        """All of it; this one comes first."""
        return (self.request, *self.beside)


async def find(parts: Parts, session: Session, id: str) -> Found:
    """A request with its batch, for whoever is signed in.

    Raises:
        Refused: it is not there for them: that it does not exist is answered in the same words.
    """
    reader = reader_of(parts, session)
    request = await parts.approvals.find(reader, id) if _ID.fullmatch(id) else None
    if request is None:
        raise no_request()
    return Found(reader, request, tuple(await parts.approvals.beside(reader, request)))


def no_request() -> Refused:
    """The one answer for what does not exist, and for what somebody may not know of."""
    message = "There is no such request for you: it does not exist, or it is for somebody else."
    return refuse(404, "not_found", message, "Sign in as the person whom it is for, or look at what waits for you.")


def decidable(parts: Parts, found: Found, *, alone: bool) -> list[Asked]:
    """What of a batch waits for whoever looks, that of the same call first; nothing where this one does not."""
    mine = [
        each
        for each in (
            found.batch[:1] if alone else sorted(found.batch, key=partial(place_among, call_of(found.request)))
        )
        if each.state is State.REQUESTED and parts.approvals.may_decide(found.reader, each)
    ]
    return mine if found.request in mine else []


def call_of(request: Asked) -> tuple[str, int]:
    """What the actions of one call have in common: they are asked for at once."""
    return request.tool, request.requested_at_ms


def place_among(call: tuple[str, int], request: Asked) -> tuple[bool, int, str]:
    """Where it stands among those of its batch, on a page of one that came of `call`."""
    return call_of(request) != call, request.requested_at_ms, request.id


def open_ones(found: Found) -> list[Asked]:
    """What of a batch whoever looks may still take back."""
    return [each for each in found.batch if each.state in OPEN and each.person == found.reader.sub]


def may_do(what: str, found: Found) -> bool:
    """Whether whoever looks may `withdraw` it, or ask for it `again`."""
    states = {"withdraw": OPEN, "again": AGAIN}[what]
    return found.request.person == found.reader.sub and found.request.state in states
