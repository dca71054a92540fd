"""The page of a server's releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import Request

from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.reading import ReleasePlace, ReleaseRow, releases_of
from pegboard_hub.web.knowing import looks_after
from pegboard_hub.web.pages.frame import Frame, with_query
from pegboard_hub.web.pages.servers.head import Head, head
from pegboard_hub.web.parts import Parts

PAGE_RELEASES = 50


@dataclass(frozen=True, slots=True)
class ReleasesView:
    """A server's releases.

    Attributes:
        older: address of the next page; empty on the last.
    """

    head: Head
    releases: tuple[ReleaseRow, ...]
    older: str
    newest: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


async def releases(parts: Parts, frame: Frame, server: RegisteredServer, request: Request) -> ReleasesView:
    """What the page of releases shows."""
    after = _place(request.query_params.get("cursor", ""))
    mine = looks_after(parts, frame.caller, server)
    async with parts.database.read() as connection:
        found, rest = await releases_of(connection, str(server.name), after, PAGE_RELEASES, deployed_only=not mine)
    here = f"/servers/{server.name}/releases"
    query = frame.viewer.query if frame.viewer else ()
    return ReleasesView(
        head=await head(parts, frame, server),
        releases=tuple(found),
        older=with_query(here, [*query, ("cursor", f"{rest.seen_at_ms}-{rest.digest}")]) if rest else "",
        newest=with_query(here, query) if after else "",
        words={
            **({server.waiting.digest: "waits for reviews"} if server.waiting else {}),
            **({server.release.digest: "deployed"} if server.release else {}),
        },
    )


def _place(cursor: str) -> ReleasePlace | None:
    if not cursor:
        return None
    at, _, digest = cursor.partition("-")
    if not (at.isascii() and at.isdigit() and len(at) <= 15 and digest.isascii() and digest.isalnum()):
        raise refuse(422, "invalid_request", "cursor: it is not one that a page gave.", "Begin again without it.")
    return ReleasePlace(int(at), digest[:64])
