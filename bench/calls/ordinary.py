"""Calls by an ordinary HTTP client, one after the other, and the cheapest upstream inside this process."""

from __future__ import annotations

import json
from typing import Any

from bench.calls.bursts import on_cpu_us
from tests.system.edge_rig import Rig, tool_call, until


async def constant(scope: Any, receive: Any, send: Any) -> None:
    """The cheapest upstream there is, of those that run in this process."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": b"{}"})


def answered(edge: Rig, server: str, token: str, status: int) -> None:
    """Wait until a call of a server is answered with this status."""
    until(lambda: edge.call(f"/mcp/{server}", token).status_code == status, f"{server} answers {status}")


def cost(edge: Rig, name: str, group: str, calls: int) -> float:
    """Envoy's CPU for a call of a server by an ordinary HTTP client, in microseconds."""
    assert edge.envoy is not None
    headers = {
        "authorization": f"Bearer {edge.token(name, groups=[group])}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }
    content = json.dumps(tool_call())
    with edge.client() as client:
        for _ in range(50):
            assert client.post(f"/mcp/{name}", headers=headers, content=content).status_code == 200
        before = on_cpu_us(edge.envoy.pid)
        for _ in range(calls):
            client.post(f"/mcp/{name}", headers=headers, content=content)
        return (on_cpu_us(edge.envoy.pid) - before) / calls
