"""Signing keys at the internal door: consumers acknowledge the bundles they use, the operator lists and rotates."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import EDGE
from pegboard_hub.common.requests import read_json, refuse
from pegboard_hub.identity.leaks import read_leaks
from pegboard_hub.identity.ring import Purpose, Ring, RingFull
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.ledger.unissued import unissued
from pegboard_hub.registry.key_rotation import KeyRotation
from pegboard_hub.web.internal.operator import bearer_token, check_operator
from pegboard_hub.web.parts import Parts

BODY_LIMIT = 64 * 1024
"""Bytes of one body; a real acknowledgement has some 500."""

M = TypeVar("M", bound=BaseModel)


class KeyWord(BaseModel):
    """One key, never its private half. Times are seconds since the epoch."""

    purpose: Purpose
    kid: str
    state: str = Field(description="next, current or retired")
    made_at: float
    signs_since: float | None
    until: float | None = Field(description="retired: when it is verified with no more, at the latest")


class ConsumerWord(BaseModel):
    """One consumer of bundles, as a rotation sees it."""

    consumer: str
    state: str = Field(description="of its process: live, starting, down or unknown")
    version: int | None = Field(description="of the bundle it said it uses")
    acknowledged: bool
    awaited: bool


class RotationWord(BaseModel):
    """A rotation that is under way."""

    purpose: Purpose
    kid: str = Field(description="the key that will sign")
    since: float
    consumers: list[ConsumerWord]


class LeakWord(BaseModel):
    """One time that keys were given up. `at` is in seconds since the epoch."""

    at: float
    by: str
    why: str
    purposes: list[str]


class KeysWord(BaseModel):
    """The answer to the operator."""

    keys: list[KeyWord]
    rotations: list[RotationWord]
    given_up: list[LeakWord] = Field(default=[], description="because they leaked, oldest first")
    signing_releases: bool = Field(default=False, description="releases are signed anew at this moment")
    not_signed: list[str] = Field(default=[], description="releases that were not, as they are not what was checked")
    joined: list[Purpose] = Field(default=[], description="asked for, and under way already")


class RotateOrder(BaseModel):
    """What is to be rotated."""

    purposes: Annotated[set[Literal["tokens", "bundles"]], Field(min_length=1)]


def acknowledgement_routes(parts: Parts) -> APIRouter:
    """Where edge and servers say which bundle they use. The credential says who speaks, whatever the body says."""
    router = APIRouter(prefix="/internal/v1", include_in_schema=False)

    @router.post("/acknowledgement", status_code=204)
    async def server(request: Request) -> None:
        try:
            channel = parts.channels.of(bearer_token(request))
        except DeliveryRefused as error:
            words = "Say it with the credential given at start."
            raise refuse(401, "unauthenticated", f"Nothing was taken: {error}.", words) from error
        _check_leads(parts)
        parts.rotation.acknowledge(channel.server, await _read(request, Acknowledgement))

    @router.post("/edge/acknowledgement", status_code=204)
    async def edge(request: Request) -> None:
        check_operator(parts, request)
        _check_leads(parts)
        parts.rotation.acknowledge(EDGE, await _read(request, Acknowledgement))

    return router


def key_routes(parts: Parts) -> APIRouter:
    """Where the operator looks at the keys, and has them rotated."""
    router = APIRouter(prefix="/internal/v1", include_in_schema=False)

    @router.get("/keys")
    async def keys(request: Request) -> KeysWord:
        check_operator(parts, request)
        signing = parts.publishing.signing
        told = {"signing_releases": signing.renewed, "not_signed": sorted(signing.not_signed.values())}
        return _word(parts.rotation).model_copy(update=told)

    @router.get("/keys/forged")
    async def forged(request: Request, since_ms: int = 0) -> dict[str, Any]:
        check_operator(parts, request)
        async with parts.database.read() as connection:
            folder, url = parts.rotation.keys.home.issued, parts.settings.public_url
            return asdict(await unissued(connection, folder, url, since_ms))

    @router.post("/keys/rotate", status_code=202)
    async def rotate(request: Request) -> KeysWord:
        check_operator(parts, request)
        order = await _read(request, RotateOrder)
        _check_leads(parts)
        try:
            joined = [purpose for purpose in sorted(order.purposes) if parts.rotation.begin(purpose)[1]]
        except OSError as error:
            words = f"The new key could not be kept ({error.strerror}), so no rotation was begun."
            raise refuse(503, "storage_unavailable", words, "Look at the disk with `pegboard doctor`.") from error
        except RingFull as error:
            raise refuse(409, "too_many_keys", f"{error}.", "Rotate again after that.") from error
        return _word(parts.rotation).model_copy(update={"joined": joined})

    return router


def _check_leads(parts: Parts) -> None:
    """Keys are the business of the hub that leads. Another is asked only while the lead changes hands."""
    if not parts.locks.leads:
        words = "This hub does not lead at this moment, so nothing was taken."
        raise refuse(503, "not_leading", words, "Try again in some seconds.")


def _word(rotation: KeyRotation) -> KeysWord:
    return KeysWord(
        keys=[word for ring in rotation.keys.rings for word in _keys(ring)],
        rotations=[word for ring in rotation.keys.rings for word in _rotation(rotation, ring)],
        given_up=[
            LeakWord(at=leak.at, by=leak.by, why=leak.why, purposes=list(leak.purposes))
            for leak in read_leaks(rotation.keys.home.keys)
        ],
    )


def _keys(ring: Ring) -> list[KeyWord]:
    fields = ("kid", "state", "made_at", "signs_since", "until")
    return [KeyWord(purpose=ring.purpose, **{name: getattr(key, name) for name in fields}) for key in ring.keys]


def _rotation(rotation: KeyRotation, ring: Ring) -> list[RotationWord]:
    if ring.next is None:
        return []
    fields = ("consumer", "state", "version", "acknowledged", "awaited")
    consumers = [ConsumerWord(**{name: getattr(each, name) for name in fields}) for each in rotation.standings(ring)]
    return [RotationWord(purpose=ring.purpose, kid=ring.next.kid, since=ring.next.made_at, consumers=consumers)]


async def _read(request: Request, model: type[M]) -> M:
    """The body. It is read after the credential was looked at, and no further than a real one is long."""
    try:
        return model.model_validate(await read_json(request, BODY_LIMIT))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        words = f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        raise refuse(422, "invalid_request", f"Nothing was taken: {words}.", "Mend the named field.") from error
