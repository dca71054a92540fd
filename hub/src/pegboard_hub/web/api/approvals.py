"""The API's routes to approvals. They tell, and take back what one asked for oneself; nothing here says yes or no.

An agent holds its person's token, and could otherwise approve what it is itself about to do. To take back only takes
away. Who decides does so in a browser in which they have just said who they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, Field

from pegboard.core.approval import State
from pegboard.core.caller import Caller
from pegboard.core.names import ServerName
from pegboard_hub.approvals.deciding import unknown
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Page, Place, Reader, Which
from pegboard_hub.approvals.model import Request as Approval
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.tables import ACTOR_LENGTH
from pegboard_hub.registry.visibility import is_person
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import body_of, read_model
from pegboard_hub.web.api.etag import tagged
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.approvals_view import (
    ApprovalDetail,
    ApprovalsAnswer,
    ApprovalSummary,
    Whose,
    WithdrawBody,
    approval_refusal,
    detail,
    summary,
)
from pegboard_hub.web.paging import AskedPage, cursor_of, place_of
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import LONGEST

VERDICTS: Final = ("approve", "reject", "decide")
"""What programs might look for below a request. It is nowhere in the API, and says so."""

AHEAD: Final = (State.REQUESTED, State.APPROVED, State.UNKNOWN)
"""What a person still has something to do about: to wait, to make the call again, to look whether it ran."""

Id = Annotated[str, Path(max_length=64, description="as a list or a pending call has it", examples=["0199c1d2e3f4"])]


def _server(text: str) -> str:
    return str(ServerName.parse(text))


class AskedApprovals(AskedPage):
    """Whose requests, and which part of them."""

    whose: Whose = Field(
        default="waiting",
        description="waiting: those that wait for your yes, first to expire first; mine: what you asked for, "
        "newest first",
    )
    ahead: bool = Field(default=False, description="of mine only those that are requested, approved or unknown")


class AskedHistory(AskedPage):
    """Which requests, and which part of them."""

    server: Annotated[str, AfterValidator(_server)] | None = Field(
        default=None, max_length=LONGEST, description="only of this one: NAMESPACE/NAME"
    )
    person: str | None = Field(default=None, max_length=ACTOR_LENGTH, description="only what this person asked for")
    state: State | None = Field(default=None, description="only in this state")


def add_approval_routes(router: APIRouter, parts: Parts) -> None:
    """Add the routes; the router sees to the sign-in."""

    @router.get(
        "/approvals",
        summary="What waits for your yes, or what you asked for",
        response_model=ApprovalsAnswer,
        responses=refusals(304, 400),
    )
    async def list_approvals(
        request: Request, caller: SignedIn, asked: Annotated[AskedApprovals, Query()]
    ) -> Response:
        reader = _reader(parts, caller)
        after = _place(place_of(parts.cursors, asked.cursor, caller, "/approvals", asked))
        if asked.whose == "waiting":
            page = await parts.approvals.inbox(reader, asked.limit, after)
        elif asked.ahead:
            page = await _ahead(parts, reader, asked.limit, after)
        else:
            page = await parts.approvals.mine(reader, asked.limit, after)
        return tagged(request, _answer(parts, caller, reader, page, "/approvals", asked), caller)

    @router.get(
        "/approvals/history",
        summary="Every request that you may see, whatever became of it; newest first",
        response_model=ApprovalsAnswer,
        responses=refusals(304, 400),
    )
    async def get_approval_history(
        request: Request, caller: SignedIn, asked: Annotated[AskedHistory, Query()]
    ) -> Response:
        reader = _reader(parts, caller)
        after = _place(place_of(parts.cursors, asked.cursor, caller, "/approvals/history", asked))
        which = Which(asked.server, asked.person, asked.state)
        page = await parts.approvals.history(reader, asked.limit, after, which)
        return tagged(request, _answer(parts, caller, reader, page, "/approvals/history", asked), caller)

    @router.get(
        "/approvals/{id}",
        summary="One request: what exactly would run, and what became of it",
        response_model=ApprovalDetail,
        responses=refusals(304, 404),
    )
    async def get_approval(request: Request, caller: SignedIn, id: Id) -> Response:
        reader = _reader(parts, caller)
        found = await parts.approvals.find(reader, id)
        if found is None:
            raise approval_refusal(unknown())
        beside = await parts.approvals.beside(reader, found)
        return tagged(request, ApprovalDetail(**_summary(parts, reader, found), **detail(found, beside)), caller)

    @router.post(
        "/approvals/{id}/withdraw",
        summary="Take back what you asked for; nobody can approve it any more",
        responses=refusals(400, 404, 409, 413),
        openapi_extra=body_of(WithdrawBody, {"why": {"why": "the wrong table"}}),
    )
    async def withdraw_approval(request: Request, caller: SignedIn, id: Id) -> ApprovalSummary:
        reader = _reader(parts, caller)
        body = await read_model(request, WithdrawBody)
        try:
            [told] = await parts.approvals.withdraw(caller.sub, [id], body.why, "api")
        except ApprovalRefused as error:
            if error.code == "unknown" and await parts.approvals.find(reader, id) is not None:
                raise _anothers() from error
            raise approval_refusal(error) from error
        return ApprovalSummary(**_summary(parts, reader, told))

    for verdict in VERDICTS:
        router.add_api_route(
            f"/approvals/{{id}}/{verdict}", _decides_nothing, methods=["POST"], include_in_schema=False
        )


async def _decides_nothing() -> None:
    """The same for every request and everybody, so that it tells nothing of what there is.

    Raises:
        Refused: always.
    """
    message = "No token decides: only a person does, in a browser in which they have just said who they are."
    raise refuse(403, "access_denied", message, "Open the request's page, /approvals, there.", "decided_in_a_browser")


async def _ahead(parts: Parts, reader: Reader, limit: int, after: Place | None) -> Page:
    """A page of what somebody asked for and still has something to do about; each state's list is in order."""
    pages = [await parts.approvals.mine(reader, limit, after, Which(state=state)) for state in AHEAD]
    found = [each for page in pages for each in page.requests]
    more = len(found) > limit or any(page.after for page in pages)
    found.sort(key=lambda each: (each.requested_at_ms, each.id), reverse=True)
    shown = found[:limit]
    return Page(shown, Place(shown[-1].requested_at_ms, shown[-1].id) if more else None)


def _answer(parts: Parts, caller: Caller, reader: Reader, page: Page, of: str, asked: AskedPage) -> ApprovalsAnswer:
    return ApprovalsAnswer(
        approvals=[ApprovalSummary(**_summary(parts, reader, each)) for each in page.requests],
        next=cursor_of(parts.cursors, page.after, caller, of, asked) if page.after else None,
    )


def _summary(parts: Parts, reader: Reader, request: Approval) -> dict[str, Any]:
    waits = request.state is State.REQUESTED and parts.approvals.may_decide(reader, request)
    return summary(request, parts.approvals.who_decides(request, reader.sub), waits, parts.public_url)


def _place(found: Any) -> Place | None:
    return None if found is None else Place(*found)


def _reader(parts: Parts, caller: Caller) -> Reader:
    if not is_person(caller):
        raise refuse(403, "access_denied", "A service asks for no approvals.", "Have a person do it.", "not_a_person")
    return parts.approvals.reader(caller.sub, caller.groups)


def _anothers() -> Refused:
    message = "It is taken back by the person who asked for it, and by nobody else."
    return refuse(403, "access_denied", message, "If you are to decide on it, reject it on its page.", "not_yours")
