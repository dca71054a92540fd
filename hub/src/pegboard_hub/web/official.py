"""`/v0.1`: the official registry API, read-only, for clients that nobody signs in to.

The contract is the MCP registry's `openapi.yaml` (2025-12-01, github.com/modelcontextprotocol/registry). Where it is
silent we follow what its readers do: a cursor goes into addresses unescaped, a refusal that is no 404 has editors and
agents block every server they know (GitHub Copilot CLI, issue 3772), and a 404 says only that something is not here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.convertors import Convertor, register_url_convertor

from pegboard_hub.common.cursors import LONGEST_CURSOR, CursorRefused, Cursors
from pegboard_hub.common.requests import OFFICIAL_PREFIX, peer_of, request_id
from pegboard_hub.registry.model import Snapshot
from pegboard_hub.registry.official.catalogue import Catalogue, Listed, Status
from pegboard_hub.registry.official.entry import Entry
from pegboard_hub.registry.official.listing import LATEST, Place, Question, all_versions, page
from pegboard_hub.registry.official.names import official_prefix
from pegboard_hub.registry.official.reach import may_read
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.remembered import Remembered

DEFAULT_LIMIT = 30
MOST_ENTRIES = 100
"""Entries of one page; who asks for more gets these, and a cursor."""

MOST_PAGES = 200
"""Pages that are remembered; a large one has some 100 KB."""

LONGEST_TEXT = 255
"""Characters of a search and of a version."""

PREFLIGHT_S = 86_400
"""Seconds that a browser may remember what it may send here (Fetch, `Access-Control-Max-Age`)."""

_NUMBER = re.compile(r"[0-9]{1,6}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)

_NOT_HERE = (404, "not_found", "There is no such server here, or no such version.", "List /v0.1/servers.")
_NO_DOOR = (404, "not_found", "There is nothing here for you.", "Operators: see [registry] in the grants file.")
_READ_ONLY = (405, "method_not_allowed", "This registry is read-only.", "Servers come through Pegboard's own API.")
_UNREADY = (503, "temporarily_unavailable", "The registry cannot answer now.", "Try again in a moment.")

_PARAMETERS = {
    "cursor": ("`metadata.nextCursor` of the page before, exactly", {"type": "string", "maxLength": LONGEST_CURSOR}),
    "limit": (f"entries at most; {MOST_ENTRIES} where it is more", {"type": "integer", "minimum": 1}),
    "search": ("part of a name or title", {"type": "string", "maxLength": LONGEST_TEXT}),
    "updated_since": ("RFC 3339; deleted ones are included then", {"type": "string", "format": "date-time"}),
    "version": ("`latest`, or an exact one", {"type": "string", "maxLength": LONGEST_TEXT}),
    "include_deleted": ("also those that have left", {"type": "boolean"}),
}
_OF_ONE = ("include_deleted",)
_OF_A_LIST = ("search", "version", "updated_since", "include_deleted")
"""What makes up a `Question`: a cursor brings the whole of it along."""

_LIST = "/v0.1/servers"
"""What a cursor is given for. The question is in it: VS Code leaves out its search on the pages that follow."""


class _Refused(Exception):
    """The request is answered with an error; status, code, message and mend as of a refusal elsewhere."""

    def __init__(self, status: int, code: str, message: str, what_to_do: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, "code": code, "what_to_do": what_to_do}


class _Door:
    """What the routes share: who may come in, and the catalogue of the registry as it is."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._made: tuple[Snapshot, str, Catalogue] | None = None
        self.cursors = parts.cursors

    async def answer(self, request: Request, work: Callable[[Catalogue, str], Awaitable[bytes]]) -> Response:
        """The answer to a request: the document that `work` finds, or an error."""
        try:
            public = self._parts.registry.public
            if public is None:
                raise _Refused(*_UNREADY)
            if not may_read(public, self._parts.public_url, peer_of(request)):
                raise _Refused(*_NO_DOOR)
            prefix = official_prefix(public, self._parts.public_url)
            found = await work(self._catalogue(prefix), prefix)
            return _unless_known(request, found, shared=public.public is True)
        except StorageUnavailable:
            return _error(request, _Refused(*_UNREADY))
        except _Refused as refused:
            return _error(request, refused)

    def _catalogue(self, prefix: str) -> Catalogue:
        """The catalogue, made once for each state of the registry."""
        current = self._parts.registry.current
        if self._made is None or self._made[0] is not current or self._made[1] != prefix:
            self._made = (current, prefix, Catalogue.of(current, prefix))
        return self._made[2]


def official_routes(parts: Parts) -> APIRouter:
    """The routes under `/v0.1`. All that is not one of them is answered here too, in this API's own shape."""
    router = APIRouter(prefix=OFFICIAL_PREFIX.rstrip("/"), tags=["official registry API"])
    door = _Door(parts)
    _add_list(router, parts, door)
    _add_versions(router, parts, door)

    @router.api_route("/{_path:anything}", methods=_EVERY_METHOD, include_in_schema=False)
    async def other(request: Request, _path: str) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Access-Control-Max-Age": str(PREFLIGHT_S)})
        return _error(request, _Refused(*(_NOT_HERE if request.method == "GET" else _READ_ONLY)))

    return router


class _Anything(Convertor[str]):
    """The rest of a path, line breaks and all, which Starlette's own `path` ends before."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """The text itself."""
        return value

    def to_string(self, value: str) -> str:
        """The text itself."""
        return value


register_url_convertor("anything", _Anything())

_EVERY_METHOD = ["GET", "OPTIONS", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def _add_list(router: APIRouter, parts: Parts, door: _Door) -> None:
    described = _described("List servers, by name", tuple(_PARAMETERS))
    pages = Remembered[bytes](parts, MOST_PAGES)

    @router.get("/servers", **described)
    async def servers(request: Request) -> Response:
        async def work(catalogue: Catalogue, prefix: str) -> bytes:
            asked = _asked(request, tuple(_PARAMETERS))
            limit = _limit(asked.pop("limit", None))
            question, after = _begin(asked, door.cursors)

            async def read() -> bytes:
                async with parts.database.read() as connection:
                    found = await page(connection, catalogue, question, after, limit)
                metadata: dict[str, Any] = {"count": len(found.entries)}
                if found.after is not None:
                    metadata["nextCursor"] = door.cursors.write(
                        {"asked": asdict(question), "after": asdict(found.after)}, _LIST
                    )
                return _written({"servers": _told(found.entries, parts), "metadata": metadata})

            return await pages.get((prefix, question, after, limit), read)

        return await door.answer(request, work)


def _add_versions(router: APIRouter, parts: Parts, door: _Door) -> None:
    async def entries(request: Request, name: str, catalogue: Catalogue, prefix: str) -> tuple[Entry, ...]:
        with_deleted = _truth("include_deleted", _asked(request, _OF_ONE).get("include_deleted"))
        listed: Listed | None = catalogue.find(name, prefix)
        if listed is None or (listed.status is Status.DELETED and not with_deleted):
            raise _Refused(*_NOT_HERE)
        async with parts.database.read() as connection:
            return await all_versions(connection, listed)

    # A name has a slash in it, escaped or not: the edge unescapes it before anybody else looks at the path.
    @router.get("/servers/{name:path}/versions", **_described("Every version of a server, newest first", _OF_ONE))
    async def versions(request: Request, name: str) -> Response:
        async def work(catalogue: Catalogue, prefix: str) -> bytes:
            found = await entries(request, name, catalogue, prefix)
            return _written({"servers": _told(found, parts), "metadata": {"count": len(found)}})

        return await door.answer(request, work)

    @router.get("/servers/{name:path}/versions/{version}", **_described("One version of a server", _OF_ONE))
    async def version(request: Request, name: str, version: str) -> Response:
        async def work(catalogue: Catalogue, prefix: str) -> bytes:
            for entry in await entries(request, name, catalogue, prefix):
                if entry.is_latest if version == LATEST else entry.version.semver == version:
                    return _written(entry.as_json(parts.public_url))
            raise _Refused(*_NOT_HERE)

        return await door.answer(request, work)


def _told(entries: tuple[Entry, ...], parts: Parts) -> list[dict[str, Any]]:
    return [entry.as_json(parts.public_url) for entry in entries]


def _begin(asked: Mapping[str, str], cursors: Cursors) -> tuple[Question, Place | None]:
    """The question, and where to go on. A cursor decides; what is said beside it must say the same."""
    said = _question(asked)
    if not asked.get("cursor"):
        return said, None
    try:
        held = cursors.read(asked["cursor"], _LIST)
    except CursorRefused as error:
        raise _bad("cursor", "it is not one that this registry gave", "Begin again without a cursor") from error
    question, after = Question(**held["asked"]), Place(**held["after"])
    for name in _OF_A_LIST:
        if asked.get(name) and _field(said, name) != _field(question, name):
            raise _bad(name, "it is not what the cursor's first page was asked for", "Begin again without a cursor")
    return question, after


def _field(question: Question, name: str) -> Any:
    return getattr(question, "updated_since_ms" if name == "updated_since" else name)


def _question(asked: Mapping[str, str]) -> Question:
    return Question(
        search=asked.get("search", ""),
        version=asked.get("version", ""),
        updated_since_ms=_moment(asked.get("updated_since")),
        include_deleted=_truth("include_deleted", asked.get("include_deleted")),
    )


def _asked(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of the query. Unknown ones are left alone, as clients of later versions may send more."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            continue
        if name in found:
            raise _bad(name, "it is there more than once", "Say it once")
        longest = LONGEST_CURSOR if name == "cursor" else LONGEST_TEXT
        if len(value) > longest:
            raise _bad(name, f"it has more than {longest} characters", "Ask with fewer")
        found[name] = value
    return found


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise _bad("limit", "it is not a number from 1", f"Ask for 1 to {MOST_ENTRIES}")
    return min(int(text), MOST_ENTRIES)


def _truth(name: str, text: str | None) -> bool:
    if text is None or text.lower() in ("true", "false"):
        return text is not None and text.lower() == "true"
    raise _bad(name, "it is neither true nor false", "Say true or false")


def _moment(text: str | None) -> int | None:
    if not text:
        return None
    mend = "Write it as 2026-08-07T13:15:04Z, and a + in it as %2B"
    if not _MOMENT.fullmatch(text):
        raise _bad("updated_since", "it is not a time of RFC 3339", mend)
    try:
        return int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise _bad("updated_since", "there is no such time", mend) from error


def _bad(field: str, why: str, mend: str) -> _Refused:
    return _Refused(400, "invalid_request", f"{field}: {why}.", f"{mend}.")


def _written(found: dict[str, Any]) -> bytes:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def _unless_known(request: Request, body: bytes, *, shared: bool) -> Response:
    """The document, or word that it is the one the client has (RFC 9110 §13.1.2).

    A cache between may keep it only where anybody may read it, and must ask each time.
    """
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": f"{'public' if shared else 'private'}, no-cache"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _error(request: Request, refused: _Refused) -> Response:
    body = {**refused.body, "request_id": request_id(request)}
    headers = {"Cache-Control": "no-store", **({"Allow": "GET, OPTIONS"} if refused.status == 405 else {})}
    return Response(json.dumps(body).encode(), refused.status, headers, media_type="application/json")


def _described(summary: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    """How a route stands in our OpenAPI document; the routes read their parameters themselves."""
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}, "what_to_do": {"type": "string"}},
    }
    statuses = {304: "unchanged", 400: "wrong", 404: "nothing here", 503: "cannot answer now"}
    return {
        "summary": summary,
        "response_class": Response,
        "responses": {
            200: {"content": {"application/json": {"schema": {"type": "object"}}}},
            **{
                status: {"description": said}
                | ({} if status == 304 else {"content": {"application/json": {"schema": error}}})
                for status, said in statuses.items()
            },
        },
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "required": False, "description": said, "schema": schema}
                for name, (said, schema) in ((name, _PARAMETERS[name]) for name in parameters)
            ]
        },
    }
