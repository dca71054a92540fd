"""A server's logs: searched by release, replica, request id and text, by those who decide on what runs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.publishing.orders import LogLine
from pegboard_hub.publishing.steering import Who
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.web.deployments_view import DeploymentDetail, deployment_detail
from pegboard_hub.web.logs_view import AskedLogs, lines_of
from pegboard_hub.web.pages.frame import Frame, Framer
from pegboard_hub.web.pages.servers.deployment import looked_after
from pegboard_hub.web.pages.servers.head import PATH as SERVER
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.parts import Parts

PATH: Final = f"{SERVER}/logs"

FIELDS: Final = ("q", "request_id", "release", "replica", "since")


@dataclass(frozen=True, slots=True)
class LogsView:
    """What the page shows.

    Attributes:
        asked: the form as it was sent.
        problems: what is wrong with it, by field.
        releases: those that run, as version and the beginning of the digest.
        replicas: ids of those that run.
        more: there were further lines that fit, before these.
        trouble: why there is nothing to be seen; empty where there may be.
    """

    head: Head
    here: str
    asked: dict[str, str]
    problems: dict[str, str]
    releases: tuple[tuple[str, str], ...]
    replicas: tuple[str, ...]
    lines: tuple[LogLine, ...]
    more: bool
    trouble: str


def add_log_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the page."""

    @router.get(PATH)
    async def look(request: Request, namespace: str, name: str) -> HTMLResponse:
        frame, server = looked_after(parts, framer, request, f"{namespace}/{name}", "logs")
        view = await _view(parts, frame, server, request)
        return framer.answer("server_logs.html", frame, view, 422 if view.problems else 200)


async def _view(parts: Parts, frame: Frame, server: RegisteredServer, request: Request) -> LogsView:
    caller = frame.caller
    who = Who.person(caller.sub, caller.groups)
    if not parts.steering.may(who, server):
        ask = f"Ask {server.owner}." if server.owner else "Ask the platform team."
        raise refuse(403, "not_owner", f"The logs of {server.name} are for its owners and operators.", ask)
    asked = {field: request.query_params.get(field, "").strip() for field in FIELDS}
    problems: dict[str, str] = {}
    lines: tuple[LogLine, ...] = ()
    more, trouble = False, ""
    try:
        found = await lines_of(parts, who, server, AskedLogs.model_validate(asked))
        lines, more = found.lines, found.more
    except ValidationError as error:
        problems = {str(each["loc"][0]): _WRONG[str(each["loc"][0])] for each in error.errors()}
    except Refused as error:
        trouble = f"{error.refusal.message} {error.refusal.what_to_do}"
    detail = await deployment_detail(parts, server, may=True)
    return LogsView(
        head=await head(parts, frame, server),
        here=f"/servers/{server.name}/logs",
        asked=asked,
        problems=problems,
        releases=tuple(_releases(detail)),
        replicas=tuple(each.id for each in detail.replicas),
        lines=lines,
        more=more,
        trouble=trouble,
    )


def _releases(detail: DeploymentDetail) -> list[tuple[str, str]]:
    kept = filter(None, (detail.candidate, detail.live, detail.previous))
    return [(each.version or each.release[:12], each.release[:12]) for each in kept]


_WRONG: Final = {
    "q": "It is too long.",
    "request_id": "It is too long.",
    "release": "Write the beginning of a digest.",
    "replica": "It is no replica’s name.",
    "since": "Write it as 2027-01-31 or 2027-01-31T14:00:00Z.",
}
