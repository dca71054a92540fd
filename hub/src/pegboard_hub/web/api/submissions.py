"""The API's routes to submissions: a project becomes a release, and its author follows it.

A token is enough to submit: what that opens is either looked at by people, or is within what the operator lets nobody
look at. A service submits with a token for nothing else (scope `submit`), to servers that named it a publisher.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from pegboard.core.caller import Caller
from pegboard.core.publishing import LARGEST_SOURCE, SOURCE_TYPE, State
from pegboard_hub.common.requests import read_body, refuse
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.knowing import known_server, looks_after, no_server, owners_for
from pegboard_hub.web.paging import cursor_of, place_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submission_shapes import (
    AgainBody,
    AskedEvents,
    AskedPublisher,
    AskedSubmissions,
    AskedSubmit,
    AskedTakeBack,
    EventsAnswer,
    PublisherBody,
    PublisherItem,
    PublishersAnswer,
    SubmissionDetail,
    SubmissionEvent,
    SubmissionsAnswer,
)
from pegboard_hub.web.submissions_view import detail, refusals_told, summary, versions

OF_SERVER = "/servers/{namespace}/{name}/submissions"
PUBLISHERS = "/servers/{namespace}/{name}/publishers"
ONE = "/submissions/{submission}"

_ARCHIVE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"tar.gz of the project's files, of {LARGEST_SOURCE // 2**20} MiB at most ({SOURCE_TYPE})",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_AGAIN = {"namespace": "prod", "message": "the forecast is by the hour"}
_PUBLISHER = {"service": "spiffe://example.org/ci/weather", "why": "its repository releases by its own CI"}


def add_submission_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in, and lets services in that may submit."""
    _add_submit(router, parts)
    _add_again(router, parts)
    _add_reading(router, parts)
    _add_take_back(router, parts)
    _add_publishers(router, parts)


def _add_submit(router: APIRouter, parts: Parts) -> None:
    @router.post(
        OF_SERVER,
        summary="Submit a project as a release; the same again is answered with the submission that there is (200)",
        status_code=202,
        response_model=SubmissionDetail,
        responses={200: {"model": SubmissionDetail, "description": "It was there"}, **refusals(404, 409, 413)},
        openapi_extra=_ARCHIVE,
    )
    async def submit_release(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedSubmit, Query()]
    ) -> Response:
        who, server = submitter(caller), f"{namespace}/{name}"
        with refusals_told():
            async with parts.publishing.receiving(who, partial(read_body, request, LARGEST_SOURCE)) as archive:
                found, new = await parts.publishing.submit(
                    who, server, archive, asked.provenance, owners_for(parts, caller.groups)
                )
        return await _answer(parts, request, caller, found, 202 if new else 200)


def _add_again(router: APIRouter, parts: Parts) -> None:
    @router.post(
        f"{ONE}/again",
        summary="Submit the same source to another namespace, as from dev to prod, without an upload",
        status_code=202,
        response_model=SubmissionDetail,
        responses={200: {"model": SubmissionDetail, "description": "It was there"}, **refusals(400, 404, 409, 413)},
        openapi_extra=body_of(AgainBody, {"promote": _AGAIN}),
    )
    async def submit_again(request: Request, submission: str, caller: SignedIn) -> Response:
        body = await read_model(request, AgainBody)
        provenance = AskedSubmit(message=body.message).provenance
        with refusals_told():
            found, new = await parts.publishing.again(
                submitter(caller), submission, body.namespace, provenance, owners_for(parts, caller.groups)
            )
        return await _answer(parts, request, caller, found, 202 if new else 200)


def _add_reading(router: APIRouter, parts: Parts) -> None:
    @router.get(
        OF_SERVER,
        summary="What was submitted of a server, newest first; for those who look after it",
        response_model=SubmissionsAnswer,
        responses=refusals(304, 400, 404),
    )
    async def list_submissions(
        request: Request, namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedSubmissions, Query()]
    ) -> Response:
        server = f"{namespace}/{name}"
        await _check_reads(parts, caller, server)
        place = place_of(parts.cursors, asked.cursor, caller, f"{server} submissions", asked)
        before = (int(place[0]), str(place[1])) if place else None
        states: tuple[State, ...] = (asked.state,) if asked.state else ()
        found = await parts.publishing.listed(server, states, before=before, limit=asked.limit + 1)
        shown, last = found[: asked.limit], found[asked.limit - 1] if len(found) > asked.limit else None
        if not is_person(caller):
            shown = [each for each in shown if (each.actor_kind, each.actor) == ("service", caller.sub)]
        known = await versions(parts, shown)
        body = SubmissionsAnswer(
            submissions=[summary(parts, each, known.get(each.release or "", "")) for each in shown],
            next=cursor_of(parts.cursors, [last.created_at_ms, last.id], caller, f"{server} submissions", asked)
            if last
            else None,
        )
        return tagged(request, body, caller)

    @router.get(ONE, summary="One submission", response_model=SubmissionDetail, responses=refusals(304, 404))
    async def get_submission(request: Request, submission: str, caller: SignedIn) -> Response:
        with refusals_told():
            found = await parts.publishing.find(submitter(caller), submission)
        return await _answer(parts, request, caller, found, 200)

    @router.get(
        f"{ONE}/events",
        summary="What happened to a submission; held until there is more, where you say for how long",
        responses=refusals(404),
    )
    async def list_submission_events(
        submission: str, caller: SignedIn, asked: Annotated[AskedEvents, Query()]
    ) -> EventsAnswer:
        who = submitter(caller)
        with refusals_told():
            await parts.publishing.find(who, submission)
            events = await parts.publishing.events(submission, asked.after, asked.wait_s)
            found = await parts.publishing.find(who, submission)
        return EventsAnswer(
            events=[SubmissionEvent(**each.model_dump()) for each in events],
            state=found.state,
            next=events[-1].seq if events else asked.after,
        )


def _add_take_back(router: APIRouter, parts: Parts) -> None:
    @router.delete(
        ONE,
        summary="Take a submission back, before anything of it runs",
        response_model=SubmissionDetail,
        responses=refusals(404, 409),
    )
    async def take_submission_back(
        request: Request, submission: str, caller: SignedIn, asked: Annotated[AskedTakeBack, Query()]
    ) -> Response:
        with refusals_told():
            found = await parts.publishing.take_back(submitter(caller), submission, asked.why)
        return await _answer(parts, request, caller, found, 200)


def _add_publishers(router: APIRouter, parts: Parts) -> None:
    @router.get(
        PUBLISHERS,
        summary="Services that may submit releases of a server; for those who look after it",
        responses=refusals(404),
    )
    async def list_publishers(namespace: str, name: str, caller: SignedIn) -> PublishersAnswer:
        server = _looked_after(parts, caller, f"{namespace}/{name}")
        found = await parts.publishing.publishers(str(server.name))
        return PublishersAnswer(
            publishers=[
                PublisherItem(service=each.service, why=each.why, named_by=each.actor, at=each.at_ms)
                for each in found
            ]
        )

    @router.post(
        PUBLISHERS,
        summary="Let a service, as your CI, submit releases of a server, and nothing else",
        status_code=204,
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(PublisherBody, {"ci": _PUBLISHER}),
    )
    async def name_publisher(request: Request, namespace: str, name: str, caller: SignedIn) -> None:
        server = _looked_after(parts, caller, f"{namespace}/{name}")
        body = await read_model(request, PublisherBody)
        with refusals_told():
            await parts.publishing.name_publisher(submitter(caller), str(server.name), body.service, body.why)

    @router.delete(
        PUBLISHERS,
        summary="Let a service submit no more",
        status_code=204,
        responses=refusals(404),
    )
    async def take_publisher(
        namespace: str, name: str, caller: SignedIn, asked: Annotated[AskedPublisher, Query()]
    ) -> None:
        server = _looked_after(parts, caller, f"{namespace}/{name}")
        with refusals_told():
            await parts.publishing.take_publisher(submitter(caller), str(server.name), asked.service, asked.why)


def submitter(caller: Caller) -> Submitter:
    """Who submits, by the token that was verified."""
    return Submitter(caller.sub, caller.sub_type, caller.groups)


def _looked_after(parts: Parts, caller: Caller, name: str) -> RegisteredServer:
    """A server of whose circle the caller is."""
    server = known_server(parts, caller, name)
    if not looks_after(parts, caller, server):
        message = f"This is for those who look after {name}: its owners, reviewers, operators and security."
        raise refuse(403, "access_denied", message, f"Ask {server.owner or 'the platform team'}.")
    return server


async def _check_reads(parts: Parts, caller: Caller, name: str) -> None:
    if is_person(caller):
        _looked_after(parts, caller, name)
    elif not await parts.publishing.may_submit(caller.sub, name):
        raise no_server()


async def _answer(parts: Parts, request: Request, caller: Caller, found: Submission, status: int) -> Response:
    response = tagged(request, await detail(parts, found), caller, status=status)
    if status == 202:
        response.headers["Location"] = f"/api/v1/submissions/{found.id}"
    return response
