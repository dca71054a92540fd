"""`/packages`: the package index that authors get the kit from, read-only, as uv and pip read it.

Whoever reaches the origin may read it: the kit is the product's code and says nothing of the company. A newcomer's
`uv lock` has no credential, and a job of CI that only runs tests has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from pegboard_hub.common.requests import refuse
from pegboard_hub.packages.shelf import KeptWheel, Shelf
from pegboard_hub.packages.simple import JSON_TYPE, PLAIN_HTML, Offered, chosen_type, files, projects
from pegboard_hub.packages.wheel import KIT, kit_wheel

PREFIX = "/packages"

_WHEEL_TYPE = "application/octet-stream"
_FRESH = {"Cache-Control": "no-cache", "Vary": "Accept"}
"""The kit may change under its name while Pegboard is developed: whoever has a copy asks whether it still is it."""

_NOT_HERE = (404, "not_found", "There is no such package here.", "This index has the kit alone: /packages/simple/.")


def package_routes(shelf: Shelf) -> APIRouter:
    """The index's routes."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.api_route("/simple/", methods=["GET", "HEAD"])
    async def all_projects(request: Request) -> Response:
        return _page(request, projects)

    @router.api_route(f"/simple/{KIT}/", methods=["GET", "HEAD"])
    async def kit_files(request: Request) -> Response:
        await asyncio.to_thread(shelf.keep_current)
        offered = [
            Offered(kept.path.name, kit_wheel().requires_python)
            for version in shelf.versions()
            if (kept := shelf.of_version(version)) is not None
        ]
        return _page(request, lambda media: files(media, offered))

    @router.api_route("/files/{name}", methods=["GET", "HEAD"])
    async def file(name: str) -> Response:
        """A wheel by its name, or its metadata alone (PEP 658)."""
        await asyncio.to_thread(shelf.keep_current)
        wheel = name.removesuffix(".metadata")
        kept = await asyncio.to_thread(_named, shelf, wheel)
        if kept is None:
            raise refuse(*_NOT_HERE)
        headers = {**_FRESH, "ETag": f'"{kept.digest}"'}
        if name == wheel:
            return FileResponse(kept.path, media_type=_WHEEL_TYPE, headers=headers)
        return Response(shelf.metadata(kept), media_type=_WHEEL_TYPE, headers={**_FRESH})

    @router.api_route("/sha256/{digest}/{name}", methods=["GET", "HEAD"])
    async def exact(digest: str, name: str) -> Response:
        """The very wheel that a release was made with."""
        kept = await asyncio.to_thread(shelf.by_digest, digest)
        if kept is None or kept.path.name != name:
            raise refuse(*_NOT_HERE)
        forever = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{digest}"'}
        return FileResponse(kept.path, media_type=_WHEEL_TYPE, headers=forever)

    return router


def _named(shelf: Shelf, name: str) -> KeptWheel | None:
    parts = name.split("-")
    kept = shelf.of_version(parts[1]) if len(parts) == 5 else None
    return kept if kept is not None and kept.path.name == name else None


def _page(request: Request, written: Callable[[str], str]) -> Response:
    media = chosen_type(request.headers.get("accept", ""))
    if not media:
        what = f"This index speaks {JSON_TYPE} and {PLAIN_HTML}."
        raise refuse(406, "not_acceptable", what, "Use uv or pip.")
    kind = media if media == JSON_TYPE else f"{media}; charset=utf-8"
    return Response(written(media), headers={**_FRESH, "Content-Type": kind})
