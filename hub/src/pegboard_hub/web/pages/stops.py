"""The page of stops: what is closed for everybody, the switch that closes more, and the one that opens it again.

To stop is fast: whoever is signed in may, as far as it is theirs. To resume widens access, so that counts only from
somebody who has just proved who they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.stops import LONGEST_WHY, STOP_KINDS
from pegboard_hub.common.requests import refuse
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.stopping.errors import StopRefused
from pegboard_hub.stopping.model import Event, Stop
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.pages.browser import Form, HereSession, signed_in
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import keep_fresh, told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.stops_view import STATUSES

PATH = "/stops"
STOP = f"{PATH}/stop"
RESUME = f"{PATH}/resume"
TITLE = "Stops"

KINDS = {
    "tool": "a tool, as namespace/server/tool",
    "server": "a server, as namespace/server",
    "surface": "a surface: cli, chat, bot, ide, web or service",
    "person": "a person, by id or e-mail address",
    "client": "a client, as the page of clients has it",
    "service": "a service, by its SPIFFE ID",
}
OWNERS_KINDS = ("tool", "server")

ENDS = {"": "when somebody resumes it", "1": "in an hour", "4": "in four hours", "24": "in a day", "168": "in a week"}
"""When a stop ends by itself, in hours."""

DONE = {
    "stopped": "Stopped. It holds for everybody within two seconds.",
    "resumed": "Resumed. It goes on within two seconds.",
}


@dataclass(frozen=True, slots=True)
class StopsView:
    """What the page shows.

    Attributes:
        governs: whether whoever looks stops and resumes everything, and not their own servers alone.
        recent: whether they have just proved who they are, so that they may resume; `again` leads to that.
        kinds: what they may stop, in words.
        form: the switch, as it was sent or as the address fills it in.
    """

    stops: tuple[Stop, ...]
    history: tuple[Event, ...]
    governs: bool
    recent: bool
    again: str
    kinds: tuple[tuple[str, str], ...]
    ends: tuple[tuple[str, str], ...]
    longest_why: int
    form: Form
    done: str = ""
    problem: Problem | None = None


def add_stop_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, _session: HereSession) -> HTMLResponse:
        await keep_fresh(parts, request)
        asked = request.query_params
        form = {name: asked.get(name, "") for name in ("kind", "name", "why", "ends")}
        view = await stops_view(parts, signed_in(request), form)
        return page(request, replace(view, done=DONE.get(asked.get("done", ""), "")))

    @router.post(STOP)
    async def stop(request: Request, _session: HereSession) -> Response:
        await keep_fresh(parts, request)
        session, form = signed_in(request), await framer.browsers.form(request)
        hours = form.get("ends", "")
        try:
            if hours not in ENDS:
                raise StopRefused("invalid", "ends", "There is no such end.", "Choose one of the list.")
            until = int((time.time() + int(hours) * 3600) * 1000) if hours else None
            who = _who(session)
            await parts.stopping.stop(who, form.get("kind", ""), form.get("name", ""), form.get("why", ""), until)
        except StopRefused as error:
            return await again(request, session, form, error, "stopped")
        return see_other(f"{PATH}?done=stopped")

    @router.post(RESUME)
    async def resume(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        session = await told_now(parts, request, session, at_most_s=0)
        session = recently_authenticated(request, session, PATH)
        try:
            who = _who(session)
            await parts.stopping.resume(who, form.get("kind", ""), form.get("name", ""), form.get("why", ""))
        except StopRefused as error:
            return await again(request, session, {}, error, "resumed")
        return see_other(f"{PATH}?done=resumed")

    @router.get(STOP)
    @router.get(RESUME)
    async def back(_session: HereSession) -> Response:
        """Where a form was sent to, opened again."""
        return see_other(PATH)

    async def again(request: Request, session: Session, form: Form, error: StopRefused, what: str) -> HTMLResponse:
        words = f"Nothing was {what}. {error.message}"
        view = await stops_view(parts, session, form)
        return page(request, replace(view, problem=Problem(STATUSES[error.reason], words, error.mend)))

    def page(request: Request, view: StopsView) -> HTMLResponse:
        status = view.problem.status if view.problem else 200
        return framer.answer("stops.html", framer.frame(request, PATH, TITLE), view, status)


async def stops_view(parts: Parts, session: Session, form: Form) -> StopsView:
    """The page, for an operator, for security, or for an owner of servers.

    Raises:
        Refused: somebody else looks.
    """
    who = _who(session)
    governs = parts.stopping.governs(who)
    if not governs and not any(
        parts.reviewing.rights.roles.own(who.groups, server) for server in parts.registry.current.servers.values()
    ):
        message = "Operators and security stop everything, and owners their own servers; you own none."
        raise refuse(403, "access_denied", message, "Ask the owner of what should be stopped.", "not_an_operator")
    return StopsView(
        stops=tuple(await parts.stopping.listed(who)),
        history=tuple(await parts.stopping.history(who)),
        governs=governs,
        recent=is_recent(session),
        again=sign_in_again_path(PATH),
        kinds=tuple((kind, KINDS[kind]) for kind in STOP_KINDS if governs or kind in OWNERS_KINDS),
        ends=tuple(ENDS.items()),
        longest_why=LONGEST_WHY,
        form={"kind": "", "name": "", "why": "", "ends": ""} | form,
    )


def stop_path(kind: str, name: str) -> str:
    """The address of the page with the switch filled in."""
    return f"{PATH}?{urlencode({'kind': kind, 'name': name})}"


def _who(session: Session) -> Who:
    return Who.person(session.facts.sub, session.facts.groups)
