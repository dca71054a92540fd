"""The internal door: where servers deliver records and the edge's agent delivers refusals.

It is a socket of its own that the edge does not route to, and each delivery carries a credential that says who
delivers. What a record claims about its own origin does not count.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError

from pegboard.core.record import Receipt
from pegboard_hub.common.requests import Refused, as_json, read_body, refuse
from pegboard_hub.ledger.channels import Channels
from pegboard_hub.ledger.errors import DeliveredTooMuch, DeliveryMalformed, DeliveryRefused
from pegboard_hub.ledger.pace import Pace
from pegboard_hub.ledger.service import EdgeRefusal, Ledger

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of one delivery; some 10,000 records."""

REFUSALS: TypeAdapter[list[EdgeRefusal]] = TypeAdapter(list[EdgeRefusal])


def internal_routes(ledger: Ledger, channels: Channels) -> APIRouter:
    """The routes of the internal door."""
    router, pace = APIRouter(prefix="/internal/v1", include_in_schema=False), Pace()

    @router.post("/records")
    async def records(request: Request) -> Receipt:
        try:
            channel = channels.of(_bearer(request))
            body = await read_body(request, BODY_LIMIT)
            pace.take(channel.server, len(body))
            return await ledger.take_records(channel, _list(body, "records"))
        except (DeliveryRefused, DeliveryMalformed, DeliveredTooMuch) as error:
            raise _refusal(error) from error

    @router.post("/edge/refusals")
    async def edge_refusals(request: Request) -> dict[str, int]:
        try:
            channels.check_operator(_bearer(request))
            delivered = REFUSALS.validate_python(_list(await read_body(request, BODY_LIMIT), "refusals"))
            return {"accepted": await ledger.take_edge_refusals(delivered)}
        except (DeliveryRefused, DeliveryMalformed, ValidationError) as error:
            raise _refusal(error) from error

    return router


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise DeliveryRefused("no bearer token came with the delivery")
    return token.strip()


def _list(delivered: bytes, name: str) -> list[Any]:
    body = as_json(delivered)
    if not isinstance(body, dict) or set(body) != {name} or not isinstance(body[name], list):
        raise DeliveryMalformed(f'the body must be {{"{name}": […]}}')
    return list(body[name])


def _refusal(error: Exception) -> Refused:
    if isinstance(error, DeliveryRefused):
        return refuse(
            401, "unauthenticated", f"Nothing was taken: {error}.", "Deliver with the credential given at start."
        )
    if isinstance(error, DeliveredTooMuch):
        return refuse(429, "too_much", f"Nothing was taken: {error}.", "Keep them, and deliver them later.")
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False, include_input=False)[0]
        words = f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    else:
        words = str(error)
    return refuse(422, "invalid_request", f"Nothing was taken: {words}.", "Mend the delivery and send it again.")
