"""What stands above each page of a server: what it is, how it stands, and its other pages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from fastapi import Request

from pegboard.core.caller import Caller
from pegboard_hub.registry import store
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.visibility import edits, owns
from pegboard_hub.web.knowing import known_server, knows_stop, looks_after
from pegboard_hub.web.pages.frame import Frame, Framer
from pegboard_hub.web.pages.standing import Banner, Standing, banners, standing
from pegboard_hub.web.parts import Parts

PATH = "/servers/{namespace}/{name}"

TABS = {
    "": "Overview",
    "tools": "Tools",
    "connect": "Connect",
    "security": "Security and reviews",
    "releases": "Releases",
    "deployment": "Deployment",
    "logs": "Logs",
    "history": "History",
}

INSIDE = {"deployment", "logs"}
"""Pages of a server whose releases are submitted, for those who look after it."""


class Tab(NamedTuple):
    """One of a server's pages."""

    title: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above every page of a server.

    Attributes:
        edit: address of the form that changes it; empty where this person cannot.
        reviewed: whether servers of its namespace need reviews.
        submit: address of the page that submits it; empty where it is no draft or not this person's.
        waiting: version of the release that waits for reviews; empty where none does, and for outsiders.
    """

    server: RegisteredServer
    now: Standing
    banners: tuple[Banner, ...]
    tabs: tuple[Tab, ...]
    edit: str = ""
    submit: str = ""
    reviewed: bool = True
    waiting: str = ""

    @property
    def closed(self) -> str:
        """Why nobody can call it, where nobody can, in words that follow a colon."""
        server = self.server
        lifecycle = "a draft" if server.lifecycle is Lifecycle.DRAFT else server.lifecycle.value
        if server.release or server.lifecycle is Lifecycle.RETIRED:
            return f"it is {lifecycle}"
        if self.waiting:
            return f"it is {lifecycle}, and its release {self.waiting} waits for reviews"
        if not server.first_live_at_ms:  # whether one waits is for those who look after it
            return f"it is {lifecycle}, and was never live"
        if server.waiting:
            return f"it is {lifecycle}, for a new release of it waits for reviews"
        return f"it is {lifecycle}, without a release"

    @property
    def ask(self) -> str:
        """Whom to ask about it."""
        server = self.server
        if not server.owner:
            return "Ask the platform team."
        return (
            f"Ask {server.owner} in {server.support_channel}." if server.support_channel else f"Ask {server.owner}."
        )


def framed(parts: Parts, framer: Framer, request: Request, name: str, tab: str) -> tuple[Frame, RegisteredServer]:
    """The frame of one of a server's pages, and the server.

    Raises:
        Refused: there is no such server for the person who looks.
    """
    frame = framer.frame(request, request.url.path, name)
    found = known_server(parts, frame.caller, name)
    shown = TABS.get(tab, "")
    title = f"{name}: {shown}" if tab and shown else name
    return replace(frame, title=title, section="/servers"), found


async def head(parts: Parts, frame: Frame, server: RegisteredServer) -> Head:
    """What stands above a server's page."""
    caller = frame.caller
    now = standing(parts.status.read(), server, whole=frame.viewer is None or looks_after(parts, caller, server))
    if server.stopped and frame.viewer and not knows_stop(parts, caller, server):
        now = replace(now, why="")
    here = f"/servers/{server.name}"
    inside = server.submitted and looks_after(parts, caller, server)
    links = {title: f"{here}/{tab}" if tab else here for tab, title in TABS.items() if inside or tab not in INSIDE}
    # What was submitted is a page below the deployment's.
    at = f"{here}/deployment" if frame.path.startswith(f"{here}/submissions/") else frame.path
    drawn = tuple(Tab(title, frame.link(href), href == at) for title, href in links.items())
    theirs = edits(parts.reviewing.rights.roles, caller, server)
    edit = frame.link(f"{here}/edit") if theirs and editable(server) else ""
    submit = f"{here}/access" if theirs else ""
    closed = (await parts.reviewing.unreached([server])).get(str(server.name))
    ask = f"{here}/access" if owns(caller, server) else ""
    runs = frame.link(f"{here}/deployment") if inside and at != f"{here}/deployment" else ""
    said = tuple(banners(server, now, await parts.reviewing.rejections([server]), closed, ask, runs))
    needs = parts.reviewing.rights.is_reviewed(server)
    return Head(server, now, said, drawn, edit, submit, needs, await _waiting(parts, caller, server))


async def _waiting(parts: Parts, caller: Caller, server: RegisteredServer) -> str:
    """The version of the release that waits for reviews; empty where none does, and for outsiders."""
    if server.waiting is None or not looks_after(parts, caller, server):
        return ""
    async with parts.database.read() as connection:
        return await store.semver(connection, str(server.name), server.waiting.digest)


def editable(server: RegisteredServer) -> bool:
    """Whether people may write a server's record: a draft's. Later a release says it, and reviews looked at it."""
    return server.lifecycle is Lifecycle.DRAFT and not server.released
