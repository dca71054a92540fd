"""Approvals at the internal door: servers ask before they run a call, and tell which of their processes are over.

A server's channel token opens these routes, and says which server and release ask; whose call it is, the caller's own
token says, which the server hands on.
"""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError

from pegboard.core.approval import ASK, OVER, Answer, Ask, Over, State
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.common.faults import words
from pegboard_hub.common.requests import read_body, refuse
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.web.approvals_view import STATUSES
from pegboard_hub.web.internal.operator import bearer_token, check_operator
from pegboard_hub.web.parts import Parts

M = TypeVar("M", bound=BaseModel)

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a question: a hundred actions, most of them short."""

STANDING = "/internal/v1/approvals"


class StandingAnswer(BaseModel):
    """How approvals stand. Times are milliseconds since the epoch."""

    waiting: int = Field(description="requests that wait for people")
    running: int = Field(description="actions that were claimed and whose end was not told yet")
    oldest: int | None = Field(description="since when the request has waited that waits longest; null: none waits")
    unknown: int = Field(description="actions whose end became unknown within a day")
    ahead_ms: int = Field(description="how far the newest entry of the history is ahead of the hub's clock")


def approval_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/approvals`."""
    router = APIRouter(include_in_schema=False)

    @router.get(STANDING)
    async def standing(request: Request) -> StandingAnswer:
        """How approvals stand, for the operator."""
        check_operator(parts, request)
        found = await parts.approvals.standing()
        return StandingAnswer(
            waiting=found.counts[State.REQUESTED],
            running=found.counts[State.CLAIMED],
            oldest=found.oldest_ms,
            unknown=found.unknown,
            ahead_ms=found.ahead_ms,
        )

    @router.post(ASK)
    async def ask(request: Request) -> Answer:
        """What must be approved before a call runs, and whether it is claimed for it now; held for `wait_s`."""
        channel = _channel(parts, request)
        question = await _read(request, Ask)

        async def still_there() -> bool:
            return not await request.is_disconnected()

        try:
            return await parts.approvals.ask(channel, question, still_there)
        except ApprovalRefused as error:
            raise refuse(STATUSES.get(error.code, 422), error.code, error.message, error.mend) from error

    @router.post(OVER, status_code=204)
    async def over(request: Request) -> None:
        """Processes of the server that are over, once what they left to be delivered was delivered."""
        channel = _channel(parts, request)
        await parts.approvals.over(channel, (await _read(request, Over)).processes)

    return router


def _channel(parts: Parts, request: Request) -> Channel:
    try:
        return parts.channels.of(bearer_token(request))
    except DeliveryRefused as error:
        mend = "Ask with the credential given at start."
        raise refuse(401, "unauthenticated", f"Nobody is asked: {error}.", mend) from error


async def _read(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await read_body(request, BODY_LIMIT), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        named = ".".join(str(part)[:64] for part in fault["loc"]) or "body"
        message = f"Nobody is asked: {named}: {words(fault)}."
        raise refuse(422, "invalid_request", message, "Mend the named field.") from error
