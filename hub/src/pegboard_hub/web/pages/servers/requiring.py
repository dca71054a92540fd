"""Requiring an approval of a tool on its server's page, and lifting that again.

To require is fast: whoever is signed in may, as far as it is theirs. What lets anybody get a yes more easily, and to
lift, counts only from somebody who has just proved who they are.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard_hub.common.requests import Refused
from pegboard_hub.requiring.errors import RequiringRefused
from pegboard_hub.requiring.service import Who
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.knowing import known_server
from pegboard_hub.web.pages.browser import Form, HereSession, signed_in
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import keep_fresh, told_now
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import TABS
from pegboard_hub.web.pages.servers.required import GROUP, PLACE, TIMES, person
from pegboard_hub.web.pages.servers.security import security
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.requirements_view import STATUSES, requiring_refusal

REQUIRE = f"{SERVER}/approvals/require"
LIFT = f"{SERVER}/approvals/lift"


def add_requiring_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes."""

    @router.post(REQUIRE)
    async def require(request: Request, _session: HereSession, namespace: str, name: str) -> Response:
        await keep_fresh(parts, request)
        form, server = await framer.browsers.form(request), f"{namespace}/{name}"
        try:
            if form.get("expires_s") not in TIMES:
                raise RequiringRefused("invalid", "expires_s", "There is no such time.", "Choose one of the list.")
            by = form.get("by", "")
            await parts.requiring.require(
                await who(request),
                f"{server}/{form.get('tool', '')}",
                form.get("group", "").strip() if by == GROUP else by,
                form.get("why", ""),
                own=form.get("own") == "on",
                expires_s=int(form["expires_s"]),
            )
        except RequiringRefused as error:
            return await again(request, server, form, error, "required")
        return see_other(f"/servers/{server}/security?done=required#{PLACE}")

    @router.post(LIFT)
    async def lift(request: Request, session: HereSession, namespace: str, name: str) -> Response:
        form, server = await framer.browsers.form(request), f"{namespace}/{name}"
        session = await told_now(parts, request, session, at_most_s=0)
        session = recently_authenticated(request, session, f"/servers/{server}/security")
        try:
            tool = f"{server}/{form.get('tool', '')}"
            await parts.requiring.lift(person(session, proved=True), tool, form.get("why", ""))
        except RequiringRefused as error:
            return await again(request, server, {}, error, "lifted")
        return see_other(f"/servers/{server}/security?done=lifted#{PLACE}")

    @router.get(REQUIRE)
    @router.get(LIFT)
    async def back(_session: HereSession, namespace: str, name: str) -> Response:
        """Where a form was sent to, opened again."""
        return see_other(f"/servers/{quote(namespace, safe='')}/{quote(name, safe='')}/security")

    async def who(request: Request) -> Who:
        """Whoever is signed in; as somebody who has just proved it only with what the login says at this moment."""
        session = signed_in(request)
        if not is_recent(session):
            return person(session)
        try:
            return person(await told_now(parts, request, session, at_most_s=0), proved=True)
        except Refused:
            return person(session)

    async def again(request: Request, server: str, form: Form, error: RequiringRefused, what: str) -> HTMLResponse:
        frame = framer.frame(request, f"/servers/{server}/security", f"{server}: {TABS['security']}")
        frame = replace(frame, section="/servers")
        view = await security(parts, frame, known_server(parts, frame.caller, server), request)
        problem = Problem(STATUSES[error.reason], f"Nothing was {what}. {error.message}", error.mend)
        if view.required is None:  # they may know of the server, and not of this
            raise requiring_refusal(error)
        shown = replace(view.required, form=view.required.form | form, problem=problem)
        return framer.answer("server_security.html", frame, replace(view, required=shown), problem.status)
