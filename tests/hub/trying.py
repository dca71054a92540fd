"""A hub in front of an edge that a test plays, for pages that call tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from pegboard_hub.web.edge_call import EdgeCalls
from tests.hub.company import URL, Company, Hub, opened, presto
from tests.oauth import Browser

SCHEMA = {
    "type": "object",
    "properties": {"sql": {"type": "string"}, "rows": {"type": "integer", "default": 5}, "deep": {"type": "object"}},
    "required": ["sql"],
}


@dataclass
class Edge:
    """An edge that answers as it is told, and remembers what it was asked."""

    says: Callable[[httpx2.Request], httpx2.Response] | None = None
    asked: list[httpx2.Request] = field(default_factory=list)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if self.says is not None:
            return self.says(request)
        return answered({"content": [{"type": "text", "text": "42 rows"}]})


def answered(result: Any, **more: Any) -> httpx2.Response:
    headers = {"x-request-id": "11111111-2222-3333-4444-555555555555"}
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result, **more}, headers=headers)


@asynccontextmanager
async def tried_in(
    company: Company, edge: Edge, declared: dict[str, Any] | None = None, person: str = "ana"
) -> AsyncIterator[tuple[Hub, Browser]]:
    """The company's hub in front of an edge that the test plays, and a person's browser."""
    if declared is None:
        declared = presto()
        declared["tools"][0] |= {"input_schema": SCHEMA, "read_only": True}
    company.deploy("prod/presto", declared)
    calls = EdgeCalls("http://edge.test:1", URL, httpx2.MockTransport(edge.handle))
    async with opened(company, lambda parts: replace(parts, edge_calls=calls)) as hub:
        browser = Browser(URL, hub.public)
        await browser.sign_in(person)
        yield hub, browser
    await calls.close()
