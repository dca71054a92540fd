"""Step 7: each layer, left alone, still refuses what the story showed being refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2

from pegboard_hub.demo.forgery import forged, forgeries
from pegboard_hub.demo.opened import open_edge
from pegboard_hub.demo.stage import AMBIGUOUS_BODIES, Shown, Stage, refused
from pegboard_hub.demo.wire import LEGACY, Wire

GROUPS = {"ana": ["ads-eng"], "fay": ["finance"], "sam": ["search-eng"], "gus": []}
REVENUE = {"name": "get_revenue_metrics", "arguments": {}}
AMBIGUOUS = ("duplicate_keys", "not_one_message", "header_mismatch")


async def each_layer_alone(stage: Stage) -> AsyncIterator[Shown]:
    """Each layer alone: layer 1 opened on purpose on a private socket, then a server whose policy permits everyone"""
    async with open_edge(stage.home) as socket:
        transport = httpx2.AsyncHTTPTransport(uds=str(socket))
        async with httpx2.AsyncClient(transport=transport, timeout=30) as http:
            async for shown in _without_layer_1(stage, Wire(http, stage.wire.public_url)):
                yield shown
    async for shown in _without_a_policy(stage):
        yield shown


async def _without_layer_1(stage: Stage, opened: Wire) -> AsyncIterator[Shown]:
    for person in ("gus", "sam"):
        token = await stage.wire.token(person)
        for what, reply in (
            ("opens a legacy session", await opened.initialize(token, headers=_truth(person))),
            ("discovers the server", await opened.modern(token, "server/discover", headers=_truth(person))),
        ):
            yield refused(f"edge open: {person} {what}", reply, "server", "group_not_granted")
    fay = await stage.wire.token("fay")
    reply = await opened.modern(fay, "tools/call", REVENUE, headers=_truth("fay"))
    yield refused("edge open: fay calls get_revenue_metrics", reply, "server", "tool_unavailable")
    async for shown in _bad_tokens(stage, opened):
        yield shown
    for what, headers in (
        ("fay says in headers that she is ana", _truth("ana")),
        ("fay says it beside the truth", [*_truth("fay"), ("X-FORWARDED-User", "ana")]),
    ):
        reply = await opened.modern(fay, "tools/call", REVENUE, headers=headers)
        yield refused(f"edge open: {what}", reply, "server", "identity_mismatch")
    async for shown in _two_readings(opened, fay):
        yield shown


async def _bad_tokens(stage: Stage, opened: Wire) -> AsyncIterator[Shown]:
    good, elsewhere = await stage.wire.token("ana"), await stage.wire.token("ana", "dev/scratch")
    cases = forgeries(good, stage.public_key(), elsewhere) | {"an expired token": (stage.expired, "token_expired")}
    for what, (token, reason) in cases.items():
        reply = await opened.modern(token, "tools/list", headers=_truth("ana"))
        yield refused(f"edge open: {what}", reply, "server", reason)


async def _two_readings(opened: Wire, fay: str) -> AsyncIterator[Shown]:
    path = "/mcp/prod/presto"
    headers = [("mcp-protocol-version", LEGACY), *_truth("fay")]
    for what, body in AMBIGUOUS_BODIES.items():
        yield refused(f"edge open: {what}", await opened.post(path, body, fay, headers), "server", *AMBIGUOUS)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": REVENUE})
    lying = [*headers, ("mcp-name", "list_tables")]
    reply = await opened.post(path, body, fay, lying)
    yield refused("edge open: Mcp-Name names another tool", reply, "server", *AMBIGUOUS)


async def _without_a_policy(stage: Stage) -> AsyncIterator[Shown]:
    """dev/scratch's policy permits everyone, so what is refused here is refused by the edge alone."""
    wire = stage.wire
    chat = await wire.token("ana", "dev/scratch", "chat")
    reply = await wire.call(chat, "echo", {"text": "x"}, "dev/scratch")
    shown = refused("policy open: ana echoes on dev/scratch from chat", reply, "edge", "surface_not_granted")
    yield stage.note("ana", shown)
    good = await wire.token("ana", "dev/scratch")
    reply = await wire.call(forged(good), "echo", {"text": "x"}, "dev/scratch")
    yield refused("policy open: a forged token", reply, "edge", "token_invalid")


def _truth(person: str) -> list[tuple[str, str]]:
    """The identity headers an edge would set for a demo person on the command line."""
    return [
        ("x-forwarded-user", person),
        ("x-forwarded-groups", json.dumps(GROUPS[person])),
        ("x-forwarded-surface", "cli"),
    ]
