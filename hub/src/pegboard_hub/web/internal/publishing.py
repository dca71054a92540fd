"""Publishing at the internal door: runtimes build what was submitted, and the operator submits at the machine."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from pegboard.core.publishing import LARGEST_SOURCE, State
from pegboard_hub.common.faults import words
from pegboard_hub.common.requests import body_parts, read_body, refuse
from pegboard_hub.publishing.artifacts import KINDS, LARGEST, Kind, spooled
from pegboard_hub.publishing.errors import ClaimLost
from pegboard_hub.publishing.orders import ARTIFACTS, CLAIM, PROGRESS, RESULT, BuildOrder, Claim, Progress, Told
from pegboard_hub.publishing.overview import overview
from pegboard_hub.publishing.rights import AT_THE_MACHINE
from pegboard_hub.web.internal.operator import check_builder, check_operator, check_runtime
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submission_shapes import (
    AskedEvents,
    AskedSubmit,
    EventsAnswer,
    SubmissionDetail,
    SubmissionEvent,
)
from pegboard_hub.web.submissions_view import detail, refusals_told

RESULT_LIMIT = 16 * 1024 * 1024
"""Bytes of what a builder tells: a declaration has four at most, and each locked package a line."""

PREFIX = "/internal/v1/publishing"

OCTETS = "application/octet-stream"

M = TypeVar("M", bound=BaseModel)


class QueueWord(BaseModel):
    """What waits for a builder. Times are milliseconds since the epoch."""

    waiting: int
    building: int
    since_ms: int | None = Field(description="since when the oldest waits that nobody works on; null: none waits")


class StillWord(BaseModel):
    """A submission that should have gone on by itself, and did not."""

    id: str
    server: str
    state: State
    since_ms: int


class PipelineWord(BaseModel):
    """What of the pipeline does not go as it should. Times are milliseconds since the epoch."""

    still: list[StillWord]
    unwell: dict[str, str] = Field(description="submitted servers of which nothing answers, each with why")
    notes: dict[str, list[str]] = Field(description="what runtimes note of what is live, by server")


def publishing_door(parts: Parts) -> APIRouter:
    """The routes for builders, and for the operator."""
    router = APIRouter(include_in_schema=False)
    _add_builds(router, parts)
    _add_artifacts(router, parts)
    _add_operator(router, parts)
    return router


def _add_builds(router: APIRouter, parts: Parts) -> None:
    @router.post(CLAIM, response_model=BuildOrder)
    async def claim(request: Request) -> Response:
        """The next order; 204 where there is none within the time asked for."""
        check_builder(parts, request)
        asked = await _read(request, Claim, 64 * 1024)
        order = await parts.publishing.claim(asked.builder, asked.wait_s, asked.gone)
        return Response(status_code=204) if order is None else _json(order)

    @router.post(PROGRESS, status_code=204)
    async def progress(request: Request, id: str) -> None:
        check_builder(parts, request)
        word = await _read(request, Progress, 64 * 1024)
        try:
            await parts.publishing.progress(id, word)
        except ClaimLost as error:
            raise _lost(error) from error

    @router.post(RESULT, status_code=204)
    async def result(request: Request, id: str) -> None:
        check_builder(parts, request)
        word = await _read(request, Told, RESULT_LIMIT)
        try:
            await parts.publishing.result(id, word)
        except ClaimLost as error:
            raise _lost(error) from error


def _add_artifacts(router: APIRouter, parts: Parts) -> None:
    @router.put(ARTIFACTS, status_code=204)
    async def put(request: Request, digest: str, kind: str) -> None:
        check_builder(parts, request)
        if kind not in KINDS:
            raise refuse(422, "invalid_request", "kind: there is no such kind.", f"Use {', '.join(sorted(KINDS))}.")
        known: Kind = kind  # type: ignore[assignment]
        async with spooled(body_parts(request, LARGEST)) as content:
            if content.digest != digest:
                message = "These bytes have another digest than they are put under."
                raise refuse(422, "digest_mismatch", message, "Put them under their own.")
            await parts.publishing.keep(known, content)

    @router.head(ARTIFACTS)
    async def head(request: Request, digest: str) -> Response:
        check_runtime(parts, request)
        size = await parts.publishing.size(digest)
        if size is None:
            raise _no_artifact()
        return Response(status_code=200, headers={"X-Pegboard-Size": str(size)})

    @router.get(ARTIFACTS)
    async def get(request: Request, digest: str) -> Response:
        check_runtime(parts, request)
        size = await parts.publishing.size(digest)
        if size is None:
            raise _no_artifact()
        headers = {"Content-Length": str(size)}
        return StreamingResponse(parts.publishing.parts(digest), media_type=OCTETS, headers=headers)


def _add_operator(router: APIRouter, parts: Parts) -> None:
    @router.get(f"{PREFIX}/queue")
    async def queue(request: Request) -> QueueWord:
        """What waits for a builder, for `pegboard doctor`."""
        check_operator(parts, request)
        return QueueWord(**(await parts.publishing.queue())._asdict())

    @router.get(f"{PREFIX}/overview")
    async def pipeline(request: Request) -> PipelineWord:
        """What stands still or does not answer, for `pegboard doctor`."""
        check_operator(parts, request)
        async with parts.database.read() as connection:
            found = await overview(connection, int(time.time() * 1000))
        healths = parts.deployments.healths.items()
        return PipelineWord(
            still=[StillWord(**each._asdict()) for each in found.still],
            unwell={name: each.why for name, each in healths if each.state in ("down", "unknown")},
            notes=parts.deployments.notes,
        )

    @router.post(f"{PREFIX}/{{namespace}}/{{name}}/submissions", status_code=202)
    async def submit(
        request: Request, namespace: str, name: str, asked: Annotated[AskedSubmit, Query()]
    ) -> SubmissionDetail:
        check_operator(parts, request)
        with refusals_told():
            provenance = asked.provenance.model_copy(update={"kind": "operator"})
            receive = partial(read_body, request, LARGEST_SOURCE)
            async with parts.publishing.receiving(AT_THE_MACHINE, receive) as archive:
                found, _ = await parts.publishing.submit(AT_THE_MACHINE, f"{namespace}/{name}", archive, provenance)
        return await detail(parts, found)

    @router.get(f"{PREFIX}/submissions/{{submission}}")
    async def one(request: Request, submission: str) -> SubmissionDetail:
        check_operator(parts, request)
        with refusals_told():
            return await detail(parts, await parts.publishing.find(AT_THE_MACHINE, submission))

    @router.get(f"{PREFIX}/submissions/{{submission}}/events")
    async def events(request: Request, submission: str, asked: Annotated[AskedEvents, Query()]) -> EventsAnswer:
        check_operator(parts, request)
        with refusals_told():
            await parts.publishing.find(AT_THE_MACHINE, submission)
            found = await parts.publishing.events(submission, asked.after, asked.wait_s)
            now = await parts.publishing.find(AT_THE_MACHINE, submission)
        return EventsAnswer(
            events=[SubmissionEvent(**each.model_dump()) for each in found],
            state=now.state,
            next=found[-1].seq if found else asked.after,
        )


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _lost(error: ClaimLost) -> Exception:
    message = f"Nothing was taken: {error}."
    return refuse(409, "claim_lost", message, "Stop building it, and ask for another order.")


def _no_artifact() -> Exception:
    return refuse(404, "not_found", "There is no artifact of that digest.", "Put it there first.")


async def _read(request: Request, model: type[M], limit: int) -> M:
    body = await read_body(request, limit)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        named = ".".join(str(part)[:64] for part in fault["loc"]) or "body"
        raise refuse(422, "invalid_request", f"{named}: {words(fault)}.", "Mend the named field.") from error
