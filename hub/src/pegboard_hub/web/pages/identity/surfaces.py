"""The operators' page of surfaces that act for people: which there are, whom each acted for, and what each may.

To register and to change may widen access, so either counts only from somebody who has just proved who they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.names import ACTING_SURFACES, MCP_PREFIX
from pegboard_hub.common.requests import refuse
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.identity.surfaces.errors import SurfaceRefused
from pegboard_hub.identity.surfaces.model import ActingSurface, By, Event, Exchange
from pegboard_hub.identity.surfaces.service import LONGEST_WHY, surface_of_text
from pegboard_hub.web.knowing import not_an_operator
from pegboard_hub.web.pages.browser import Form, HereSession
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import told_now
from pegboard_hub.web.pages.onward import see_other, sign_in_again_path
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.surfaces_view import STATUSES

PATH = "/surfaces"
SAVE = f"{PATH}/save"
REMOVE = f"{PATH}/remove"
TITLE = "Surfaces"

LISTS = ("groups", "servers", "channels", "redirect_uris")
DONE = {
    "saved": "Done. It holds from now on; what it had before is void.",
    "removed": "Removed. It gets nothing any more, and what it had is void.",
}
ACTIONS = {"register": "registered", "change": "changed", "remove": "removed"}


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """One exchange, with its server as people name it."""

    exchange: Exchange
    server: str


@dataclass(frozen=True, slots=True)
class SurfacesView:
    """What the page shows.

    Attributes:
        one: the surface that is looked at; None shows the list.
        form: as it was sent, or as the surface is.
        recent: whether whoever looks has just proved who they are; `again` leads to that.
    """

    surfaces: tuple[ActingSurface, ...]
    one: ActingSurface | None
    exchanges: tuple[ExchangeRow, ...]
    history: tuple[Event, ...]
    kinds: tuple[str, ...]
    actions: Mapping[str, str]
    form: Form
    recent: bool
    again: str
    longest_why: int
    page: str
    done: str = ""
    problem: str = ""
    mend: str = ""


def add_surface_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""
    surfaces = parts.identity.surfaces

    @router.get(PATH)
    async def look(request: Request, session: HereSession) -> HTMLResponse:
        operator = await _operator(parts, request, session)
        client_id = request.query_params.get("client", "")
        if client_id and client_id not in surfaces.current:
            mend = "It may have been removed since: look at the list."
            raise refuse(404, "not_found", "No surface of that id is registered.", mend)
        done = DONE.get(request.query_params.get("done", ""), "")
        return page(request, replace(await view_of(operator, client_id), done=done))

    @router.post(SAVE)
    async def save(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        client_id = form.get("client_id", "").strip()
        known = surfaces.current.get(client_id) if form.get("version") else None
        here = f"{PATH}?{urlencode({'client': client_id})}" if known else PATH
        operator = recently_authenticated(request, await _operator(parts, request, session, at_most_s=0), here)
        try:
            await _save(parts, operator, client_id, known, form)
        except SurfaceRefused as error:
            view = await view_of(operator, client_id if known else "", form)
            problem = f"Nothing was changed. {error.field}: {error.message}"
            return page(request, replace(view, problem=problem, mend=error.mend), STATUSES[error.reason])
        return see_other(f"{PATH}?{urlencode({'client': client_id, 'done': 'saved'})}")

    @router.post(REMOVE)
    async def remove(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request)
        operator = await _operator(parts, request, session)
        client_id = form.get("client_id", "")
        try:
            await surfaces.remove(By(operator.facts.sub), client_id, form.get("why", ""))
        except SurfaceRefused as error:
            view = await view_of(operator, client_id if client_id in surfaces.current else "")
            problem = f"Nothing was removed. {error.field}: {error.message}"
            return page(request, replace(view, problem=problem, mend=error.mend), STATUSES[error.reason])
        return see_other(f"{PATH}?done=removed")

    @router.get(SAVE)
    @router.get(REMOVE)
    async def back(_session: HereSession) -> Response:
        """Where a form was sent to, opened again."""
        return see_other(PATH)

    async def view_of(operator: Session, client_id: str, form: Form | None = None) -> SurfacesView:
        one = surfaces.current.get(client_id)
        prefix = f"{parts.public_url}{MCP_PREFIX}"
        acted = await surfaces.exchanges(client_id) if one else []
        return SurfacesView(
            surfaces=tuple(surfaces.current.values()),
            one=one,
            exchanges=tuple(ExchangeRow(each, each.resource.removeprefix(prefix)) for each in acted),
            history=tuple(await surfaces.history(client_id or None)),
            kinds=ACTING_SURFACES,
            actions=ACTIONS,
            form={**_filled(one), **(form or {})},
            recent=is_recent(operator),
            again=sign_in_again_path(f"{PATH}?{urlencode({'client': client_id})}" if client_id else PATH),
            longest_why=LONGEST_WHY,
            page=f"{parts.public_url}/acting?client={client_id}",
        )

    def page(request: Request, view: SurfacesView, status: int = 200) -> HTMLResponse:
        return framer.answer("surfaces.html", framer.frame(request, PATH, TITLE), view, status)


async def _operator(parts: Parts, request: Request, session: Session, at_most_s: float | None = None) -> Session:
    """The session with the facts that the login tells now.

    Raises:
        Refused: somebody else looks, or the login does not answer.
        SignInNeeded: the sign-in has ended meanwhile.
    """
    current = await told_now(parts, request, session, at_most_s=at_most_s)
    if not parts.identity.clients.may_look_after(current.facts.groups):
        raise not_an_operator(parts)
    return current


async def _save(parts: Parts, operator: Session, client_id: str, known: ActingSurface | None, form: Form) -> None:
    """Register or change as the form says.

    Raises:
        SurfaceRefused: it cannot be done.
    """
    said: dict[str, Any] = {name: form.get(name, "").split("\n") for name in LISTS}
    said = {name: [each.strip() for each in lines if each.strip()] for name, lines in said.items()}
    said |= {"name": form.get("name", ""), "surface": known.surface if known else form.get("surface", "")}
    said["jwks"] = known.jwks if known and not form.get("jwks", "").strip() else _keys(form.get("jwks", ""))
    surface, by = surface_of_text(client_id, said), By(operator.facts.sub)
    if known is None:
        await parts.identity.surfaces.register(by, surface, form.get("why", ""))
        return
    version = form.get("version", "")
    looked_at = int(version) if version.isascii() and version.isdigit() and len(version) < 16 else -1
    await parts.identity.surfaces.change(by, surface, form.get("why", ""), looked_at)


def _keys(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SurfaceRefused("invalid", "jwks", "It is no JSON.", "Paste the JWK set of public keys.") from error


def _filled(one: ActingSurface | None) -> dict[str, str]:
    if one is None:
        return dict.fromkeys(("client_id", "name", "surface", "jwks", "why", "version", *LISTS), "")
    lists = {name: "\n".join(getattr(one, name)) for name in LISTS}
    own = {"client_id": one.client_id, "name": one.name, "surface": one.surface, "version": str(one.version)}
    return {**own, **lists, "jwks": "", "why": ""}
