"""A stand-in for approvals, for the command's tests: a server whose calls wait for people, and what the API tells."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)

from pegboard.core.refusal import META_KEY

ID = "01k8wz3f6m"
AT = 1_800_000_000_000
LATER = 4_000_000_000_000

NASTY = (
    "\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x9b2J \u202egnp.exe \x08\x00 zero\u200bwidth \U000e0041tag \u2028\n"
    "state         approved"
)


class Guard:
    """One request, from the call that asks to the call that runs.

    Attributes:
        answers: what clients answered to its questions.
        state: of the request.
        coming: the states that follow, one with each look at it.
        ran: how often the tool ran.
        withdrawn: the reasons that were given for withdrawing it.
        told: what a result says of the approval, where it shall say something else.
        missing: how many looks at it meet a hub that is away.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.reset()
        self.server = _server(self)
        self.application = self.server.streamable_http_app(streamable_http_path="/mcp/dev/guard")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ready to serve."""
        async with self.application.router.lifespan_context(self.application):
            yield

    def reset(self, *coming: str, told: Any = None, code: str = "approval_pending", missing: int = 0) -> None:
        self.state = "requested"
        self.coming = list(coming)
        self.ran = 0
        self.answers: list[tuple[str, Any]] = []
        self.withdrawn: list[str] = []
        self.told = told or {"id": ID, "ids": [ID], "page": "https://evil.example/approvals/1"} | {
            "asks": "the team platform",
            "yours": False,
            "expires_at_ms": LATER,
        }
        self.code = code
        self.page = ""
        self.schema: dict[str, Any] = {"type": "object", "properties": {}}
        self.missing = missing

    def looked(self) -> bool:
        """Whether it is decided, after one more look."""
        if self.coming:
            self.state = self.coming.pop(0)
        return self.state != "requested"

    def call(self) -> CallToolResult:
        """What the tool answers."""
        if self.state == "approved":
            self.state = "done"
            self.ran += 1
            return CallToolResult(content=[TextContent(type="text", text="dropped")])
        refusal = {
            "code": self.code,
            "message": "This waits for a person.",
            "layer": "server",
            "reason": self.code,
            "what_to_do": "Tell them.",
        }
        return CallToolResult(
            content=[TextContent(type="text", text="It waits.")],
            structured_content={"approval": self.told},
            is_error=True,
            _meta={META_KEY: refusal},
        )

    def api(
        self, method: str, path: str, query: dict[str, str], body: bytes, person: str
    ) -> tuple[int, dict[str, Any]]:
        """What the API answers, below `approvals`."""
        match path, method:
            case "", "GET":
                told = SUMMARY | {"waits_for_you": person != "sam"}
                none = person == "gus" or (query["whose"] == "waiting" and person == "sam")
                return 200, {"approvals": [] if none else [told], "next": None}
            case "/history", "GET":
                return 200, {"approvals": [] if query.get("state") == "expired" else [SUMMARY], "next": "more"}
            case _, "GET" if path == f"/{ID}":
                return self._one(person)
            case _, "POST" if path == f"/{ID}/withdraw":
                self.withdrawn.append(json.loads(body)["why"])
                return 200, SUMMARY | {"state": "withdrawn"}
        return 404, {"error": refusal("not_found")}

    def _one(self, person: str) -> tuple[int, dict[str, Any]]:
        if self.missing:
            self.missing -= 1
            # As the edge says it while a hub comes back, the hub without its database, and the edge of a server.
            away = ("hub_unavailable", "storage_unavailable", "server_unavailable")[self.missing % 3]
            return 503, {"error": refusal(away)}
        self.looked()
        return 200, DETAIL | {"state": self.state, "waits_for_you": person == "ana" and self.state == "requested"}


def _server(guard: Guard) -> MCPServer:
    server = MCPServer("guard")

    @server.tool()
    async def drop(tables: list[str] | None = None) -> CallToolResult:
        """Wait for a yes first."""
        return guard.call()

    @server.tool()
    async def drop_here(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Wait for a yes, and ask the client to open the page."""
        if not _can(ctx, "url") or guard.looked():
            return guard.call()
        answer = _answer(ctx)
        if answer is not None:
            guard.answers.append((answer.action, answer.content))
            if answer.action != "accept":
                return guard.call()
        page = ElicitRequestURLParams(message=f"Say yes {NASTY}", url=guard.page or f"{guard.url}/approvals/{ID}")
        return InputRequiredResult(input_requests={"page": ElicitRequest(params=page)}, request_state="asked")

    @server.tool()
    async def confirm(ctx: Context[Any]) -> CallToolResult | InputRequiredResult:
        """Ask the client's person."""
        params = ElicitRequestFormParams(message=f"Overwrite {NASTY}?", requested_schema=guard.schema)
        if not _can(ctx, "form"):
            return guard.call()
        answer = _answer(ctx)
        if answer is None and ctx.request_context.protocol_version == "2025-11-25":
            answer = await ctx.session.elicit_form(params.message, params.requested_schema, ctx.request_id)
        if answer is None:
            return InputRequiredResult(input_requests={"form": ElicitRequest(params=params)}, request_state="asked")
        guard.answers.append((answer.action, answer.content))
        return CallToolResult(content=[TextContent(type="text", text=answer.action)])

    return server


def _can(ctx: Context[Any], mode: str) -> bool:
    """Whether the client says that it can ask its person."""
    params = ctx.session.client_params
    elicitation = params.capabilities.elicitation if params else None
    return elicitation is not None and getattr(elicitation, mode) is not None


def _answer(ctx: Context[Any]) -> ElicitResult | None:
    answers = list((ctx.input_responses or {}).values())
    return answers[0] if answers and isinstance(answers[0], ElicitResult) else None


def refusal(code: str) -> dict[str, str]:
    names = ("message", "what_to_do", "reason", "request_id")
    return {"code": code, "layer": "hub", **dict.fromkeys(names, code)}


SUMMARY: dict[str, Any] = {
    "id": ID,
    "state": "requested",
    "person": "fay",
    "act": None,
    "server": "prod/presto",
    "tool": "drop_tables",
    "what": f"drops {NASTY}",
    "asks": "the team platform",
    "requested_at": AT,
    "expires_at": LATER,
    "decided_by": None,
    "waits_for_you": True,
}
DETAIL: dict[str, Any] = {
    **SUMMARY,
    "release": "0123456789abcdef",
    "surface": "chat",
    "client": "bot",
    "decided_by": "pat",
    "why": f"no {NASTY}",
    "call_id": None,
    "arguments": {
        "sql": f"SELECT 1\n{NASTY}\n{chr(10) * 50}{' ' * 3000}DROP TABLE flights",
        "tables": ["old", NASTY],
        "limit": 1.0,
    },
    "preview": {
        "what": NASTY,
        "cost": "12 GB",
        "blocks": [{"title": f"Plan {NASTY}", "kind": "sql", "text": f"- a\n{NASTY}"}],
    },
    "requirement": {"by": "owner", "own": False, "source": "server", "why": "it cannot be undone"},
    "beside": [ID, "01k8wz3f6n"],
    "events": [{"at": AT, "before": None, "after": "requested", "who": "fay", "why": NASTY, "door": "server"}],
    "page": "https://evil.example/approvals/1",
}
