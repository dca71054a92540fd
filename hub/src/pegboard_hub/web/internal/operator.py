"""What the operator's own process asks the hub at its internal door."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError

from pegboard_hub.common.faults import words
from pegboard_hub.common.requests import read_json, refuse
from pegboard_hub.common.runtimes import known_runtimes
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.registry.reviews.model import Kind, State
from pegboard_hub.web.notices import current_notices
from pegboard_hub.web.parts import Parts

BODY_LIMIT = 64 * 1024
"""Bytes of what a command sends; a surface with its keys is the longest."""

M = TypeVar("M", bound=BaseModel)

MOST_OPEN = 10_000
"""Open reviews that are looked at; servers of others are told as in review."""

_CLOSED = frozenset({Lifecycle.DRAFT, Lifecycle.IN_REVIEW, Lifecycle.RETIRED})
"""Of what somebody else has decided; what is approved and not reachable just comes up."""


class GrantsWord(BaseModel):
    """What the hub has to say of the grants file now."""

    fault: str = Field(description="why the file is not the one in force; empty when it is")
    unusable: tuple[str, ...] = Field(description="declarations that cannot be used, a line each")
    conflicts: tuple[str, ...] = Field(description="those of them that say where file and registry conflict")
    notices: tuple[str, ...] = Field(description="what is hardly meant, a line each")
    closed: dict[str, str] = Field(description="servers that may run and that nobody can call, each with why")
    deploying: dict[str, str] = Field(
        description="submitted servers of which something is on its way, each with what"
    )


class ProberStanding(BaseModel):
    """Whether the hub hears of the prober."""

    standing: Literal["awaited", "reporting", "silent"]
    heard_at: int = Field(description="when it last reported, or when the hub began to wait; milliseconds")
    servers: int = Field(description="servers whose health it told")


def operator_routes(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1` that need the operator's credential."""
    router = APIRouter(prefix="/internal/v1", include_in_schema=False)

    @router.get("/grants")
    async def grants(request: Request) -> GrantsWord:
        check_operator(parts, request)
        snapshot = parts.registry.current
        return GrantsWord(
            fault=snapshot.fault,
            unusable=snapshot.unusable,
            conflicts=parts.registry.conflicts,
            notices=current_notices(parts),
            closed=await _closed(parts),
            deploying=dict(parts.deployments.under_way),
        )

    @router.get("/prober")
    async def prober(request: Request) -> ProberStanding:
        check_operator(parts, request)
        word = parts.health.word()
        return ProberStanding(standing=word.standing, heard_at=word.heard_at_ms, servers=len(word.servers))

    return router


async def _closed(parts: Parts) -> dict[str, str]:
    shut = {str(s.name): s for s in parts.registry.current.shut if s.source and s.lifecycle in _CLOSED}
    if not shut:
        return {}
    waits: dict[str, set[Kind]] = {}
    for review in await parts.reviewing.listed(states=[State.OPEN], limit=MOST_OPEN):
        waits.setdefault(review.server, set()).add(review.kind)
    return {name: _why_closed(server, waits.get(name, set())) for name, server in shut.items()}


def _why_closed(server: RegisteredServer, waits: Collection[Kind]) -> str:
    if server.lifecycle is Lifecycle.IN_REVIEW and waits:
        return f"it waits for {' and '.join(kind.value for kind in Kind if kind in waits)}"
    return f"it is {server.lifecycle.value}: nobody can call it"


def check_operator(parts: Parts, request: Request) -> None:
    """Let the operator's own process pass.

    Raises:
        Refused: another asks.
    """
    try:
        parts.channels.check_operator(bearer_token(request))
    except DeliveryRefused as error:
        words = "Ask with the credential given at start."
        raise refuse(401, "unauthenticated", f"This is for the operator's own process: {error}.", words) from error


def check_runtime(parts: Parts, request: Request) -> str:
    """Let a runtime pass; gives its name, which is `machine` for the instance's own.

    Raises:
        Refused: another asks.
    """
    try:
        return parts.channels.runtime(bearer_token(request))
    except DeliveryRefused as error:
        words = "Ask with the runtime's own credential; `pegboard runtime add` makes one."
        raise refuse(401, "unauthenticated", f"This is for runtimes: {error}.", words) from error


def check_runs(parts: Parts, request: Request) -> str:
    """Let a runtime of servers pass, and no builder; gives its name.

    Raises:
        Refused: another asks.
    """
    name = check_runtime(parts, request)
    known = known_runtimes(parts.rotation.keys.home.runtimes).get(name)
    if known is not None and known.builds:
        message = f"This is for runtimes of servers: {name} builds, and runs none."
        raise refuse(
            401, "unauthenticated", message, "Have a runtime of servers ask; `pegboard runtime add` makes one."
        )
    return name


def check_builder(parts: Parts, request: Request) -> str:
    """Let a builder pass; gives its name, which is `machine` for the instance's own.

    Raises:
        Refused: another asks.
    """
    try:
        return parts.channels.builder(bearer_token(request))
    except DeliveryRefused as error:
        words = "Ask with a builder's own credential; `pegboard runtime add --builds` makes one."
        raise refuse(401, "unauthenticated", f"This is for builders: {error}.", words) from error


def prober_alone(parts: Parts) -> Callable[[Request], None]:
    """A check that lets the prober's own credential pass, and raises `Refused` for any other."""

    def check(request: Request) -> None:
        try:
            parts.channels.check_prober(bearer_token(request))
        except DeliveryRefused as error:
            words = "Tell it with the prober's own credential."
            raise refuse(401, "unauthenticated", f"Nothing was taken: {error}.", words) from error

    return check


def bearer_token(request: Request) -> str:
    """The credential that came with a request at the internal door; empty when none did."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def read_model(request: Request, model: type[M], limit: int = BODY_LIMIT) -> M:
    """The request's body, of `limit` bytes at most, as what a command sends.

    Raises:
        Refused: it is too long, is no JSON, or a field is not as it must be; the field is named.
    """
    try:
        # As JSON, in which a list is what a tuple is written as.
        return model.model_validate_json(json.dumps(await read_json(request, limit)), strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        named = ".".join(str(part)[:64] for part in fault["loc"]) or "body"
        raise refuse(422, "invalid_request", f"{named}: {words(fault)}.", "Mend the named field.") from error
