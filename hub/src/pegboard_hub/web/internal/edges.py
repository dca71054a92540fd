"""Joined edges at the internal door: the operator adds and removes them; they take bundles and say how they are.

An edge's credential opens the routes under `/internal/v1/joined-edge` and nothing else, for that edge alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pegboard.core.acknowledgement import Acknowledgement
from pegboard_hub.common.faults import words
from pegboard_hub.common.joining import (
    NONCE_HEADER,
    PROOF_HEADER,
    EdgeWord,
    JoinFile,
    SpiffeId,
    is_nonce,
    proof,
)
from pegboard_hub.common.requests import Refused, read_json, refuse
from pegboard_hub.edges.errors import EdgeRefused, EdgeRemoved, EdgeUnknown
from pegboard_hub.edges.model import JoinedEdge
from pegboard_hub.ledger.api import BODY_LIMIT, REFUSALS
from pegboard_hub.web.edges_view import EdgesAnswer, edge_entries
from pegboard_hub.web.internal.operator import bearer_token, check_operator
from pegboard_hub.web.parts import Parts

BY = "operator"
SMALL = 64 * 1024

HOLD_S = 5.0
"""Seconds for which a question for news is held open when there are none."""

MOST_HELD = 4
"""Questions of one edge that are held open at a time. It asks one after the other, also after a restart."""

PACE_S = 0.25
"""Seconds between two whole bundles for one edge, which may be megabytes: a thief of its credential gets no more."""

_STATUSES = {"invalid": 422, "there": 409, "unknown": 404}
_CODES = {422: "invalid_request", 409: "conflict", 404: "not_found"}

M = TypeVar("M", bound=BaseModel)


class AddBody(BaseModel):
    """Which edge to add; of one on another machine also who it is."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64)
    spiffe_id: SpiffeId | None = None


class RemoveBody(BaseModel):
    """Which edge to remove, and why."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64)
    why: str = Field(max_length=1000)


class News(NamedTuple):
    """What a consumer of bundles is told."""

    tag: str
    bundle: str | None
    keys: str


def edge_door(parts: Parts) -> APIRouter:
    """The operator's routes under `/internal/v1/edges`."""
    router = APIRouter(prefix="/internal/v1/edges", include_in_schema=False)

    @router.get("")
    async def look(request: Request) -> EdgesAnswer:
        check_operator(parts, request)
        return EdgesAnswer(edges=edge_entries(parts))

    @router.post("", status_code=201)
    async def add(request: Request) -> JoinFile:
        check_operator(parts, request)
        body = await _read(request, AddBody)
        try:
            credential = await parts.edges.add(body.name, BY, body.spiffe_id or "")
        except EdgeRefused as error:
            raise _refusal(error) from error
        settings = parts.settings
        return JoinFile(
            name=body.name,
            credential=credential,
            public_url=settings.public_url,
            instance=parts.rotation.keys.home.root,
            hubs=settings.hubs or (settings.name,),
            services_port=settings.services.port if settings.services else 0,
        )

    @router.post("/remove")
    async def remove(request: Request) -> EdgesAnswer:
        check_operator(parts, request)
        body = await _read(request, RemoveBody)
        try:
            await parts.edges.remove(body.name, BY, body.why)
        except EdgeRefused as error:
            raise _refusal(error) from error
        return EdgesAnswer(edges=edge_entries(parts))

    return router


def joined_edge_door(parts: Parts) -> APIRouter:
    """The routes of joined edges themselves."""
    router = APIRouter(prefix="/internal/v1/joined-edge", include_in_schema=False)
    held: Counter[str] = Counter()
    paces: dict[str, Pace] = {}

    @router.get("/bundle")
    async def bundle(request: Request, tag: str = "") -> Response:
        """The edge's bundle, once it is another than that of `tag`; and the keys that it is verified with."""
        nonce = request.headers.get(NONCE_HEADER, "")
        if not is_nonce(nonce):
            raise refuse(422, "invalid_request", f"{NONCE_HEADER}: it is no number.", "Send a new one each time.")
        try:
            edge = _edge(parts, request)
        except EdgeRemoved as error:
            return proved(error.digest, nonce, 410, {"error": {"code": "edge_removed", "message": str(error)}})
        _check_leads(parts)
        if held[edge.digest] >= MOST_HELD:
            raise refuse(429, "rate_limited", "Questions of this edge are open already.", "Wait for their answers.")
        held[edge.digest] += 1
        try:
            news = await _news(parts, edge, tag, paces.setdefault(edge.digest, Pace()))
        finally:
            let_go(held, edge.digest)
        try:
            edge = _edge(parts, request)  # it may have been removed meanwhile
        except EdgeRemoved as error:
            return proved(error.digest, nonce, 410, {"error": {"code": "edge_removed", "message": str(error)}})
        parts.edges.heard(edge)
        return proved(edge.digest, nonce, 200, news._asdict())

    @router.post("/acknowledgement", status_code=204)
    async def acknowledgement(request: Request) -> None:
        edge = _known(parts, request)
        _check_leads(parts)
        parts.rotation.acknowledge(edge.consumer, await _read(request, Acknowledgement))

    @router.post("/word", status_code=204)
    async def word(request: Request) -> None:
        edge = _known(parts, request)
        _check_leads(parts)
        parts.edges.heard(edge, await _read(request, EdgeWord))

    @router.post("/refusals")
    async def refusals(request: Request) -> dict[str, int]:
        edge = _known(parts, request)
        body = await read_json(request, BODY_LIMIT)
        try:
            delivered = REFUSALS.validate_python(body.get("refusals") if isinstance(body, dict) else None)
        except ValidationError as error:
            raise _invalid(error) from error
        return {"accepted": await parts.ledger.take_edge_refusals(delivered, edge.name)}

    return router


class Pace:
    """Lets one pass every so often, and the first at once."""

    def __init__(self) -> None:
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + PACE_S
        await asyncio.sleep(mine - now)


async def _news(parts: Parts, edge: JoinedEdge, tag: str, pace: Pace) -> News:
    path = parts.rotation.keys.home.joined_edge_bundle(edge.name)

    async def look() -> str:
        return tag_of(path)

    def over(seen: str) -> bool:
        return seen not in ("", tag) or edge.name not in parts.edges.names

    found = await parts.registry.written.until(edge.consumer, look, over, HOLD_S)
    if found not in ("", tag):
        await pace.turn()
    return await asyncio.to_thread(read_news, path, parts.rotation.keys.home.bundle_keys, tag)


def let_go(held: Counter[str], digest: str) -> None:
    """Count one question less that is held open; of who has none nothing is kept."""
    held[digest] -= 1
    if not held[digest]:
        del held[digest]


def read_news(path: Path, keys: Path, tag: str) -> News:
    """The keys are read last: whatever signed the bundle is among them."""
    found = tag_of(path)
    text = path.read_text(encoding="utf-8") if found and found != tag else None
    return News(found or tag, text, keys.read_text(encoding="utf-8"))


def tag_of(path: Path) -> str:
    """What changes whenever a file is replaced; empty where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_mtime_ns}-{stat.st_ino}"


def proved(digest: str, nonce: str, status: int, document: object) -> Response:
    """An answer that whoever asked can tell to be the hub's."""
    body = json.dumps(document).encode()
    headers = {PROOF_HEADER: proof(digest, nonce, status, body), "cache-control": "no-store"}
    return Response(body, status, headers, "application/json")


def _edge(parts: Parts, request: Request) -> JoinedEdge:
    try:
        return parts.edges.of(bearer_token(request))
    except EdgeUnknown as error:
        raise _unauthenticated(error) from error


def _known(parts: Parts, request: Request) -> JoinedEdge:
    try:
        return _edge(parts, request)
    except EdgeRemoved as error:
        raise _unauthenticated(error) from error


def _unauthenticated(error: Exception) -> Refused:
    words = "Join it again: `pegboard edge add` makes a new file."
    return refuse(401, "unauthenticated", f"Nothing was taken: {error}.", words)


def _check_leads(parts: Parts) -> None:
    if not parts.locks.leads:
        words = "This hub does not lead at this moment, so nothing was taken."
        raise refuse(503, "not_leading", words, "Try again in some seconds.")


def _refusal(error: EdgeRefused) -> Refused:
    status = _STATUSES[error.reason]
    return refuse(status, _CODES[status], str(error), error.mend)


async def _read(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate(await read_json(request, SMALL))
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> Refused:
    fault = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part)[:64] for part in fault["loc"]) or "body"
    return refuse(422, "invalid_request", f"Nothing was taken: {field}: {words(fault)}.", "Mend the named field.")
