"""Servers in pods at the internal door: each takes its own bundle there, with its channel and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pegboard.core.names import ServerName
from pegboard_hub.common.joining import NONCE_HEADER, digest_of, is_nonce
from pegboard_hub.common.requests import refuse
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.publishing.orders import BUILDING, PLATFORM_WHEEL, RELEASE_KEYS, Grounds, KitFile
from pegboard_hub.web.internal.edges import HOLD_S, let_go, proved, read_news, tag_of
from pegboard_hub.web.internal.operator import bearer_token, check_builder, check_runtime
from pegboard_hub.web.parts import Parts

MOST_PODS = 256
"""Questions of one release that are held open at a time: all its pods have the same channel."""


def pod_door(parts: Parts) -> APIRouter:
    """The route under `/internal/v1/pod`."""
    router = APIRouter(prefix="/internal/v1/pod", include_in_schema=False)
    held: Counter[str] = Counter()

    @router.get("/bundle")
    async def bundle(request: Request, tag: str = "") -> Response:
        """The server's bundle, once it is another than that of `tag`; and the keys that it is verified with."""
        nonce, token = request.headers.get(NONCE_HEADER, ""), bearer_token(request)
        if not is_nonce(nonce):
            raise refuse(422, "invalid_request", f"{NONCE_HEADER}: it is no number.", "Send a new one each time.")
        try:
            channel = parts.channels.of(token)
        except DeliveryRefused as error:
            words = "The runtime makes a new one when it applies the release again."
            raise refuse(401, "unauthenticated", f"Nothing was told: {error}.", words) from error
        digest, home = digest_of(token), parts.rotation.keys.home
        path = home.bundle(ServerName.parse(channel.server))
        if held[digest] >= MOST_PODS:
            raise refuse(429, "rate_limited", "Questions of this server are open already.", "Wait for their answers.")
        held[digest] += 1

        async def look() -> bool:
            return tag_of(path) not in ("", tag)

        try:
            await parts.registry.written.until(channel.server, look, bool, HOLD_S)
            news = await asyncio.to_thread(read_news, path, home.bundle_keys, tag)
        finally:
            let_go(held, digest)
        return proved(digest, nonce, 200, news._asdict())

    return router


def runtime_door(parts: Parts) -> APIRouter:
    """What a runtime of its own asks for beside its orders."""
    router = APIRouter(include_in_schema=False)
    home = parts.rotation.keys.home

    @router.get(RELEASE_KEYS)
    async def release_keys(request: Request) -> Response:
        """The keys that releases are verified with, sealed for who asks: they decide what code is started."""
        nonce = request.headers.get(NONCE_HEADER, "")
        if not is_nonce(nonce):
            raise refuse(422, "invalid_request", f"{NONCE_HEADER}: it is no number.", "Send a new one each time.")
        check_runtime(parts, request)
        keys = json.loads(await asyncio.to_thread(home.release_keys.read_text, encoding="utf-8"))
        return proved(digest_of(bearer_token(request)), nonce, 200, keys)

    @router.get(BUILDING)
    async def building(request: Request) -> Response:
        """What builders go by, sealed for who asks: it says where code comes from."""
        nonce = request.headers.get(NONCE_HEADER, "")
        if not is_nonce(nonce):
            raise refuse(422, "invalid_request", f"{NONCE_HEADER}: it is no number.", "Send a new one each time.")
        check_builder(parts, request)
        file = parts.registry.grants_file
        if file is None:
            message = "This hub has not read its grants file yet."
            raise refuse(503, "not_ready", message, "Build by what was said last, and ask again.")
        wheels = await asyncio.to_thread(Shelf(home).newest)
        kit = tuple(KitFile(version=each.version, digest=each.digest, file=each.path.name) for each in wheels)
        said = Grounds(indexes=tuple(file.publishing.indexes), kit=kit)
        return proved(digest_of(bearer_token(request)), nonce, 200, said.model_dump(mode="json"))

    @router.get(PLATFORM_WHEEL)
    async def platform_wheel(request: Request, digest: str) -> Response:
        """One of the platform's own wheels, of this version or an earlier one."""
        check_runtime(parts, request)
        kept = await asyncio.to_thread(Shelf(home).by_digest, digest)
        if kept is None:
            raise refuse(404, "not_found", "The platform has no wheel of that digest.", "Lock the project again.")
        return Response(await asyncio.to_thread(kept.path.read_bytes), media_type="application/octet-stream")

    return router
