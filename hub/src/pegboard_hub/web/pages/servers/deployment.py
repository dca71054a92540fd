"""What runs of a server and what is on its way, on its page: how a release takes over, its figures, and the switches.

The page follows by itself. Who may decide is who owns the server, or operates; everybody who looks after it reads it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, get_args
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.person import caller_of
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.rollout import Stage
from pegboard_hub.publishing.steering import Who
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.deployments_view import (
    LONGEST_WHY,
    Action,
    DeployedRelease,
    DeploymentBody,
    DeploymentDetail,
    act,
    deployment_detail,
)
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.knowing import known_server, looks_after
from pegboard_hub.web.pages.browser import Form, HereSession, signed_in
from pegboard_hub.web.pages.frame import CLIENT, DEFAULT_SURFACE, Frame, Framer
from pegboard_hub.web.pages.freshness import keep_fresh
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.servers import deployment_words as words
from pegboard_hub.web.pages.servers.deployment_words import Choice, Offer
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import Head, framed, head
from pegboard_hub.web.pages.servers.way import Step, way_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submissions_view import versions

PATH: Final = f"{SERVER}/deployment"
DO: Final = f"{PATH}/{{action}}"

SHOWN: Final = 20
"""Submissions on the page."""

DONE: Final = {
    "promote": "Done. It goes on without waiting.",
    "rollback": "Done. The page says what it goes back to.",
    "pause": "Paused. Nothing new starts, and what is worse still goes back by itself.",
    "resume": "It goes on.",
    "scale": "Kept. Replicas come and go within seconds.",
    "restart": "Done. The page says how its new replicas come up.",
}

_FOLLOWED: Final = ("open", "Its releases come from a folder")
_FOLLOWED_HOW: Final = (
    "The operator’s grants file names it. What is in it at a start takes all calls: there are no steps here, and "
    "nothing to go back to."
)


class Share(NamedTuple):
    """A release's part of the callers.

    Attributes:
        begin: percent before it, in the picture.
    """

    words: str
    role: str
    percent: int
    begin: int


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """What the page shows.

    Attributes:
        here: address of the page, which is asked for again by itself.
        tone: of what stands first: open, allowed or denied.
        lines: what is so now, a sentence each.
        way: of the submission that is on its way, or watched; empty where none is.
        shares: who has which part of the callers, largest first; empty where one release has all.
        kept: releases that run or are kept, each with what it is there for.
        lost: the newest submission, where it came to nothing.
        listed: the newest submissions.
        offers: what whoever is signed in may do now.
        choices: releases that can be gone back to by name.
        stale: the page was opened before what it offers changed.
        sent: the switch that was thrown, where nothing was done.
        form: as it was sent, or blank.
    """

    head: Head
    here: str
    path: str
    detail: DeploymentDetail
    tone: str
    headline: str
    lines: tuple[str, ...]
    way: tuple[Step, ...]
    shares: tuple[Share, ...]
    kept: tuple[tuple[str, DeployedRelease], ...]
    lost: Submission | None
    listed: tuple[Submission, ...]
    offers: tuple[Offer, ...]
    choices: tuple[Choice, ...]
    form: Form
    stale: bool = False
    sent: str = ""
    longest_why: int = LONGEST_WHY
    done: str = ""
    problem: Problem | None = None


def add_deployment_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, namespace: str, name: str) -> HTMLResponse:
        frame, server = looked_after(parts, framer, request, f"{namespace}/{name}", "deployment")
        offered = request.query_params.get("offered", "") if is_partial(request) else ""
        view = await deployment_view(parts, frame, server, offered)
        view = replace(view, done=DONE.get(request.query_params.get("done", ""), ""))
        return page(request, frame, view)

    @router.post(DO)
    async def do(request: Request, _session: HereSession, namespace: str, name: str, action: str) -> Response:
        await keep_fresh(parts, request)
        form, server = await framer.browsers.form(request), f"{namespace}/{name}"
        if action not in get_args(Action):
            raise refuse(404, "not_found", "There is no such switch.", "Look at the server’s page.")
        try:
            body = _body(form)
            await act(parts, person(signed_in(request)), server, _action(action), body)
        except Refused as error:
            if error.status in (403, 404) and not _knows(parts, request, server):
                raise
            frame, found = looked_after(parts, framer, request, server, "deployment")
            view = await deployment_view(parts, frame, found)
            told = error.refusal
            problem = Problem(error.status, f"Nothing was done. {told.message}", told.what_to_do)
            return page(request, frame, replace(view, form=view.form | form, problem=problem, sent=action))
        return see_other(f"/servers/{server}/deployment?done={action}")

    @router.get(DO)
    async def back(_session: HereSession, namespace: str, name: str, action: str) -> Response:  # noqa: ARG001
        """Where a form was sent to, opened again."""
        return see_other(f"/servers/{quote(namespace, safe='')}/{quote(name, safe='')}/deployment")

    def page(request: Request, frame: Frame, view: DeploymentView) -> HTMLResponse:
        template = "deployment_now.html" if is_partial(request) else "server_deployment.html"
        return framer.answer(template, frame, view, view.problem.status if view.problem else 200)


def is_partial(request: Request) -> bool:
    """Whether htmx asks for what follows by itself, and not a browser for the page."""
    return request.headers.get("hx-request-type") == "partial"


def looked_after(
    parts: Parts, framer: Framer, request: Request, name: str, tab: str
) -> tuple[Frame, RegisteredServer]:
    """The frame of a page for those who look after a server, and the server.

    Raises:
        Refused: there is no such server for the person who looks, or how it runs is none of theirs.
    """
    frame, server = framed(parts, framer, request, name, tab)
    if not looks_after(parts, frame.caller, server):
        ask = f"Ask {server.owner}." if server.owner else "Ask the platform team."
        raise refuse(403, "not_owner", f"How {name} runs is for those who look after it.", ask)
    return frame, server


def person(session: Session) -> Who:
    """Whoever is signed in."""
    return Who.person(session.facts.sub, session.facts.groups)


def acting(frame: Frame) -> Session | None:
    """Who is signed in, where the page is not shown as somebody else."""
    session = frame.session
    return session if session and frame.viewer and frame.viewer.sub == session.facts.sub else None


async def deployment_view(parts: Parts, frame: Frame, server: RegisteredServer, offered: str = "") -> DeploymentView:
    """The page for whoever looks after the server.

    Args:
        parts: the hub's.
        frame: of the page.
        server: the server.
        offered: what the page that is open offered, as it was told then; empty: it is opened now.
    """
    session = acting(frame)
    may = session is not None and parts.steering.may(person(session), server)
    detail = await deployment_detail(parts, server, may=may)
    path, followed = f"/servers/{server.name}", _is_followed(server)
    async with parts.database.read() as connection:
        listed = await submissions.listed(connection, str(server.name), limit=SHOWN)
        way = await _way(connection, detail, listed)
    tone, headline = _FOLLOWED if followed else words.headline(detail)
    choices = words.choices(listed, await versions(parts, listed))
    offers = tuple(words.offers(detail, choices)) if may else ()
    now = "-".join(each.action for each in offers)
    return DeploymentView(
        head=await head(parts, frame, server),
        here=frame.link(f"{path}/deployment", offered=offered or now or "nothing"),
        path=path,
        detail=detail,
        tone=tone,
        headline=headline,
        lines=(_FOLLOWED_HOW,) if followed else tuple(words.lines(detail)),
        way=way,
        shares=_shares(detail),
        kept=tuple(_kept(detail)),
        lost=words.last_trouble(detail, listed),
        listed=tuple(listed),
        offers=offers,
        choices=choices,
        form={"why": "", "release": "", "min": "", "max": ""},
        stale=bool(offered) and offered != (now or "nothing"),
    )


async def _way(
    connection: AsyncConnection, detail: DeploymentDetail, listed: Sequence[Submission]
) -> tuple[Step, ...]:
    """Of the release that is on its way, or watched."""
    moving = detail.candidate or (detail.live if detail.stage is Stage.WATCHING else None)
    found = next((each for each in listed if moving is not None and each.id == moving.submission), None)
    if found is None:
        return ()
    return way_of(found, await submissions.events(connection, found.id), int(time.time() * 1000))


def _shares(detail: DeploymentDetail) -> tuple[Share, ...]:
    """Who has which part of the callers, where two releases share them."""
    if detail.stage is not Stage.STEPPING or detail.live is None or detail.candidate is None:
        return ()
    live, new = detail.live, detail.candidate
    return (
        Share(f"{words.named(new)}, on its way", "new", new.percent, 0),
        Share(f"{words.named(live)}, live", "live", live.percent, new.percent),
    )


def _is_followed(server: RegisteredServer) -> bool:
    """Whether its releases come from a folder of the operator's, and none was ever submitted."""
    return bool(server.source) and not server.submitted


def _kept(detail: DeploymentDetail) -> Iterator[tuple[str, DeployedRelease]]:
    if detail.candidate is not None:
        yield "On its way", detail.candidate
    if detail.live is not None:
        yield ("Live until it was retired" if words.retired(detail) else "Live"), detail.live
    if detail.previous is not None:
        yield "To go back to", detail.previous


def _action(name: str) -> Action:
    found: Action = next(each for each in get_args(Action) if each == name)
    return found


def _body(form: Form) -> DeploymentBody:
    return DeploymentBody(
        why=form.get("why", "")[: LONGEST_WHY + 1],
        release=form.get("release", "").strip()[:64],
        min=_number("min", form),
        max=_number("max", form),
    )


def _number(name: str, form: Form) -> int | None:
    said = form.get(name, "").strip()
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and len(said) <= 6):
        raise refuse(422, "invalid_request", f"{name}: it is no number.", "Write a number, or nothing.")
    return int(said)


def _knows(parts: Parts, request: Request, name: str) -> bool:
    """Whether whoever is signed in looks after the server, and is shown on its page why nothing was done."""
    session = signed_in(request)
    caller = caller_of(session.facts, DEFAULT_SURFACE, CLIENT)
    server = known_server(parts, caller, name)
    return looks_after(parts, caller, server)
