"""An instance for the command's tests: a stand-in for hub and edge on a loopback port, and the real kit behind it."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from mcp_types import CallToolResult, ImageContent, TextContent

from pegboard import Server, ToolError, authorize_tool, confirm, requires_approval, saves
from pegboard.cli.client import DEMO_GRANT
from pegboard.core.refusal import Refusal
from pegboard.testing import InMemoryHub
from tests.kit.guarding import Guard
from tests.kit.publishing import Publishing
from tests.kit.sign_in import AuthorizationServer

PEOPLE = {"ana": ["ads-eng"], "fay": ["finance"], "sam": ["search-eng"], "gus": []}
REGISTERED = {f"dev/{name}" for name in ("desk", "expired", "plain", "unknown", "down", "broken", "gateway", "guard")}
GROUPS_OF_DESK = ["ads-eng", "finance"]

MANIFEST = """
name = "desk"
entry = "desk:server"
description = "Tests of the command"
owner = "platform"
support_channel = "#desk"

[requests]
business_groups = ["ads-eng", "finance"]
surfaces = ["cli", "ide"]
"""
POLICIES = {
    "granted": "permit (principal, action, resource);",
    "ads-revenue": 'permit (principal in Group::"ads-eng", action, resource);',
    "small-orders": (
        '@arguments("amount") permit (principal, action == Action::"list", resource);\n'
        'permit (principal, action == Action::"call", resource) when { context.args.amount <= 10 };'
    ),
}

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;owned\x07title \x9b2Jwiped \u202egnp.exe \x08\x00end"
HARMLESS = "red title wiped gnp.exe end"


def desk(started: threading.Event) -> Server:
    """A server with one tool for each kind of answer."""
    server = Server()

    @server.tool(title="Echo")
    @authorize_tool(policy="granted")
    @saves(minutes=1)
    async def echo(text: str, times: int = 1, loud: bool = False, tags: list[str] | None = None) -> str:
        """Say it back.

        The second paragraph."""
        return " ".join([text.upper() if loud else text] * times + (tags or []))

    @server.tool()
    @authorize_tool(policy="ads-revenue")
    async def revenue(day: str = "today") -> dict[str, Any]:
        """Revenue of a day."""
        return {"day": day, "nested": {"usd": 12.5}}

    @server.tool()
    @authorize_tool(policy="small-orders")
    async def order(amount: int) -> str:
        """Order something."""
        return f"ordered {amount}"

    @server.tool()
    @authorize_tool(policy="granted")
    async def rows() -> dict[str, Any]:
        """A table."""
        columns = [{"name": "carrier", "type": "VARCHAR"}, {"name": "delay", "type": "DOUBLE"}]
        return {
            "columns": columns,
            "rows": [["UA", 12.1], ["\x1b[2J[bold]AA", None]],
            "notice": "showing 2\nof 3 rows",
        }

    @server.tool(structured_output=False)
    @authorize_tool(policy="granted")
    async def hostile() -> CallToolResult:
        """Try the terminal."""
        return CallToolResult(content=[TextContent(type="text", text=HOSTILE)])

    @server.tool(structured_output=False)
    @authorize_tool(policy="granted")
    async def picture() -> CallToolResult:
        """A picture."""
        data = base64.b64encode(b"x" * 1000).decode()
        return CallToolResult(content=[ImageContent(type="image", data=data, mime_type="image/png")])

    @server.tool()
    @authorize_tool(policy="granted")
    async def fail() -> str:
        """Fail."""
        raise ToolError("no such \x1b[31mtable")

    @server.tool()
    @authorize_tool(policy="granted")
    async def linger() -> str:
        """Never end."""
        import anyio

        started.set()
        await anyio.sleep_forever()
        return ""

    @server.tool()
    @authorize_tool(policy="granted")
    @requires_approval(by="finance", each="tables", why="it cannot be undone")
    async def wipe(tables: list[str]) -> str:
        """Wipe tables, with a yes to each."""
        return f"wiped {', '.join(tables)}"

    @server.tool()
    @authorize_tool(policy="granted")
    @confirm("Overwrite {table}?")
    async def overwrite(table: str) -> str:
        """Overwrite a table."""
        return f"overwrote {table}"

    return server


def refusal(code: str, reason: str) -> Refusal:
    return Refusal(code, "Not for you. Ask platform in #desk.", "edge", reason, "Ask platform in #desk.", "req-1")


class Instance:
    """The stand-in: tokens, the API, and an edge that knows a few ways to say no.

    Attributes:
        url: its public URL.
        started: set when the tool `linger` runs.
        asked: (path, query) of every API request.
        called: the path of every request at the edge that is for a server.
        unknown_yet: servers that the edge does not know until it was asked once.
        sign_in: its authorization server.
        refused: access tokens that the API takes no more.
        demo: whether it has the demo directory.
        drafts: what was registered, by name.
        guard: the server dev/guard, whose calls wait for people.
        publishing: what was submitted, and what runs.
        verdicts: what becomes of a request of dev/desk with each look at it: look, approve, reject or some.
        listed: the servers that everybody but gus may use, by the surface asked for; "" is the token's own.
    """

    def __init__(self, project: Path, url: str) -> None:
        (project / "policies").mkdir(parents=True)
        (project / "pegboard.toml").write_text(MANIFEST)
        for name, text in POLICIES.items():
            (project / "policies" / f"{name}.cedar").write_text(text)
        self.started = threading.Event()
        self.guard = Guard(url)
        self.publishing = Publishing(HOSTILE)
        self.verdicts: list[str] = []
        self.hub = InMemoryHub(project, desk(self.started), public_url=url)
        self.desk = self.hub.application()
        self.url = url
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.called: list[str] = []
        self.unknown_yet: set[str] = set()
        self.sign_in = AuthorizationServer(url, self._access)
        self.refused: set[str] = set()
        self.drafts: dict[str, dict[str, Any]] = {}
        self.demo = True
        self.listed: dict[str, list[dict[str, Any]]] = {"": [LISTED]}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            async with self.guard.running():
                await self.desk(scope, receive, send)
        elif scope["path"].startswith(("/oauth/", "/.well-known/")):
            await self._sign_in(scope, receive, send)
        elif scope["path"].startswith("/api/v1/"):
            known = _token_of(scope) not in self.refused
            away = 401, {"error": refusal("unauthenticated", "token_revoked").as_json()}
            body = await _body(receive) if scope["method"] == "POST" else b""
            await respond(send, *(self._api(scope, body) if known else away))
        else:
            await self._edge(scope, receive, send)

    async def _sign_in(self, scope: Any, receive: Any, send: Any) -> None:
        form = {k: v[0] for k, v in parse_qs((await _body(receive)).decode()).items()}
        match scope["path"]:
            case "/.well-known/oauth-authorization-server":
                await respond(send, 200, self.sign_in.metadata())
            case "/oauth/authorize":
                query = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
                await redirect(send, self.sign_in.authorize(query))
            case "/oauth/device":
                await respond(send, *self.sign_in.device_authorization())
            case "/oauth/revoke":
                await respond(send, *self.sign_in.revoke(form))
            case _ if form["grant_type"] == DEMO_GRANT:
                await respond(send, *self._token(form))
            case _:
                await respond(send, *self.sign_in.token(form))

    def _access(self, person: str, resource: str, sid: str) -> str:
        return self.hub.token(person, PEOPLE[person], "cli", aud=resource, sid=sid, client_id="pegboard-cli")

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if not self.demo:
            return 400, {"error": "unsupported_grant_type", "error_description": "grant_type must be one of others"}
        person, surface, resource = form["person"], form["surface"], form["resource"]
        if person not in PEOPLE:
            said = f"unknown person {person!r}; the demo directory has {', '.join(PEOPLE)}"
            return 400, {"error": "invalid_grant", "error_description": said}
        if not resource.endswith("/api") and resource.removeprefix(f"{self.url}/mcp/") not in REGISTERED:
            return 400, {"error": "invalid_target", "error_description": f"{resource!r} is no registered server"}
        value = self.hub.token(person, PEOPLE[person], surface, aud=resource)
        return 200, {"access_token": value, "token_type": "Bearer", "expires_in": 899, "scope": ""}

    def _api(self, scope: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        claims = _claims(scope)
        assert claims["aud"] == f"{self.url}/api"
        query = {k: v[0] for k, v in parse_qs(scope["query_string"].decode()).items()}
        self.asked.append((scope["path"], query))
        person = claims["sub"]
        media = dict(scope["headers"]).get(b"content-type", b"").decode()
        path = scope["path"].removeprefix("/api/v1/")
        if (published := self.publishing.api(scope["method"], path, query, body, person, media)) is not None:
            return published
        match path:
            case "whoami":
                names = ("sub", "sub_type", "email", "groups", "surface", "client_id")
                return 200, {"channel": None, **{name: claims[name] for name in names}}
            case "servers" if scope["method"] == "POST":
                return self._draft(json.loads(body), claims)
            case "servers":
                return 200, {"servers": [] if person == "gus" else self.listed.get(query.get("surface", ""), [])}
            case "drafts:check":
                return self._draft(json.loads(body), claims, makes=False)
            case "servers/dev/desk":
                return 200, DETAIL
            case "servers/dev/gone" if person == "ana":
                return 200, GONE
            case path if path.removeprefix("servers/") in {*self.drafts, *REGISTERED}:
                return 200, {"server": path.removeprefix("servers/")}
            case "servers/dev/desk/history":
                return 200, {"entries": [CHANGED], "shortened": True, "next": None}
            case "me/tools":
                return 200, _page(query, [] if person == "gus" else MY_TOOLS)
            case "clients" if person == "ana":
                return 200, {"clients": [CLIENT], "never_used": 7}
            case "clients":
                return 403, {"error": refusal("access_denied", "not_an_operator").as_json()}
            case "stops" if scope["method"] == "POST" and person == "ana":
                asked = json.loads(body)
                return 201, STOP | {name: asked[name] for name in ("kind", "name", "why")}
            case "stops" if scope["method"] == "POST":
                return 403, {"error": refusal("access_denied", "not_yours").as_json()}
            case "stops":
                return 200, {"stops": [STOP] if person == "ana" else []}
            case "rules" | "rules:preview" if person == "gus":
                return 403, {"error": refusal("access_denied", "not_an_operator").as_json()}
            case "rules" if scope["method"] == "POST" and "on" not in json.loads(body):
                return 403, {"error": refusal("widens", "rules_widens").as_json()}
            case "rules" if scope["method"] == "POST":
                return 201, VERSION
            case "rules":
                return 200, {"version": 7, "made": VERSION, "total": 1, "rules": [RULE], "next": None}
            case "rules:preview":
                return 200, PREVIEW
            case "rules/history":
                return 200, {"versions": [VERSION]}
            case "rules/difference":
                return 200, {"old": 6, "new": 7, "lines": [f"+ {HOSTILE}"]}
            case "rules/file":
                return 200, {"version": 7, "text": f"version = 7\n# {HOSTILE}\n"}
            case "reviews":
                none = "waiting" in query or query.get("state") == "rejected"
                return 200, {"reviews": [] if none else [REVIEW], "next": None}
            case "reviews/4bf92f3577b34da6":
                return 200, REVIEW
            case "reviews/decided":
                return 200, REVIEW | {"id": "decided", "state": "approved"}
            case path if path.startswith("reviews/"):
                return 404, {"error": refusal("not_found", "not_found").as_json()}
            case path if (request := self._asked_of_desk(path)) is not None:
                return 200, request
            case path if path.split("/")[0] == "approvals":
                return self.guard.api(scope["method"], path.removeprefix("approvals"), query, body, person)
            case "explain" if query["server"] == "dev/desk":
                return 200, explained(query.get("person", person), query)
        return 404, {"error": refusal("unknown_server", "unknown_server").as_json()}

    def _asked_of_desk(self, path: str) -> dict[str, Any] | None:
        """A request that a call of dev/desk waits for; somebody may have decided on it by now."""
        twin = self.hub.approvals
        [found, *_] = [each for each in twin.requests if path == f"approvals/{each.id}"] or [None]
        if found is None:
            return None
        if twin.waiting and self.verdicts:
            match self.verdicts.pop(0):
                case "approve":
                    twin.approve(by="fay")
                case "reject":
                    twin.reject(by="fay", why="not today")
                case "some":
                    twin.reject(twin.waiting[0], by="fay", why="not this one")
                    twin.approve(by="fay")
        return {"id": found.id, "state": found.state, "decided_by": found.decided_by, "why": found.why}

    def _draft(
        self, body: dict[str, Any], claims: dict[str, Any], *, makes: bool = True
    ) -> tuple[int, dict[str, Any]]:
        """Register a draft, as the hub's API does."""
        wanted = {"server", "description", "owner", "support_channel", "links", "sensitivity", "why"}
        assert body.keys() - {"title"} == wanted
        if body["owner"] not in claims["groups"]:
            return 422, {"error": refusal("invalid_request", "invalid_request").as_json()}
        if body["server"] in self.drafts or body["server"] in REGISTERED:
            return 409, {"error": refusal("name_taken", "name_taken").as_json()}
        if not makes:
            return 200, {"server": body["server"]}
        self.drafts[body["server"]] = body
        return 201, {"server": body["server"], "lifecycle": "draft"}

    async def _edge(self, scope: Any, receive: Any, send: Any) -> None:
        if (name := scope["path"].removeprefix("/mcp/")) in self.unknown_yet:
            self.unknown_yet.remove(name)
            await respond(send, 404, {"error": refusal("unknown_server", "unknown_server").as_json()})
            return
        claims = _claims(scope)
        self.called.append(scope["path"])
        match scope["path"]:
            case "/mcp/dev/desk" if claims["surface"] == "ide":
                await respond(send, 403, refusal("access_denied", "surface_not_granted").as_jsonrpc())
            case "/mcp/dev/desk":
                identity = {
                    "x-forwarded-user": claims["sub"],
                    "x-forwarded-groups": json.dumps(claims["groups"]),
                    "x-forwarded-surface": claims["surface"],
                    "x-request-id": "req-7",
                }
                headers = [*scope["headers"], *((k.encode(), v.encode()) for k, v in identity.items())]
                await self.desk({**scope, "headers": headers}, receive, send)
            case "/mcp/dev/guard":
                await self.guard.application(scope, receive, send)
            case "/mcp/dev/expired":
                await respond(send, 401, refusal("unauthenticated", "token_expired").as_jsonrpc())
            case "/mcp/dev/plain":
                await respond(send, 403, {"error": refusal("access_denied", "group_not_granted").as_json()})
            case "/mcp/dev/unknown":
                await respond(send, 404, {"error": refusal("unknown_server", "unknown_server").as_json()})
            case "/mcp/dev/down":
                await respond(send, 503, refusal("server_unavailable", "server_unavailable").as_jsonrpc())
            case "/mcp/dev/broken":
                await respond(
                    send, 500, {"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": HOSTILE}}
                )
            case _:
                await respond(send, 502, "<html>bad gateway</html>", b"text/html")


LISTED = {
    "server": "dev/desk",
    "title": "Desk",
    "description": f"Tests {HOSTILE}",
    "owner": "platform",
    "support_channel": "#desk",
    "sensitivity": "internal",
    "release": "0123",
    "status": "live",
    "stopped": "moved \x1b[31m",
    "lifecycle": "deprecated",
    "lifecycle_why": f"use {HOSTILE}",
    "resource_url": "http://127.0.0.1/mcp/dev/desk",
    "tools": [{"name": "echo", "title": "Echo", "description": "", "minutes_saved": 1, "stopped": "moved"}],
}

DETAIL = {
    **{name: value for name, value in LISTED.items() if name != "tools"},
    "out_of_reach": "",
    "ends_at": 1_800_000_000_000,
    "successor": f"dev/plain{HOSTILE}",
    "semver": "1.0.3",
    "links": {"docs": "https://wiki.example/desk"},
    "granted": {"groups": ["ads-eng"], "surfaces": ["cli"], "channels": None, "services": None},
    "reviews": [{"kind": "security", "state": "approved"}],
    "you": {"usable": True},
}
GONE = {"server": "dev/gone", "lifecycle": "retired", "out_of_reach": f"retired: {HOSTILE}", "you": {"usable": False}}
CHANGED = {
    "at": 1_800_000_000_000,
    "actor": "pat",
    "action": "edit",
    "why": f"say {HOSTILE}",
    "fields": [
        {"field": "description", "before": "a", "after": HOSTILE + "b" * 50},
        {"field": "takes_any", "before": False, "after": True},
        {"field": "granted_surfaces", "before": ["cli"], "after": ["cli", "ide"]},
    ],
}
LEAVING = {name: LISTED[name] for name in ("server", "lifecycle", "lifecycle_why")}
MY_TOOLS = [{**LISTED["tools"][0], **LEAVING, "name": f"echo{n}"} for n in range(3)]  # type: ignore[dict-item]


def _page(query: dict[str, str], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Pages of one entry each, whatever limit is asked for."""
    start = int(query.get("cursor", "0"))
    return {"tools": entries[start : start + 1], "next": str(start + 1) if start + 1 < len(entries) else None}


CLIENT = {
    "software": "dynamic:0123",
    "kind": "dynamic",
    "name": f"Editor {HOSTILE}",
    "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback"],
    "uri": None,
    "surface": "ide",
    "standing": "approved",
    "users": [{"sub": name, "name": name.title(), "connections": 1} for name in ("ana", "fay", "sam", "gus")],
    "connections": 4,
    "last_seen_at": 1_800_000_000_000,
}


STOP = {
    "kind": "person",
    "name": f"mal {HOSTILE}",
    "why": f"lost {HOSTILE}",
    "by": "ana",
    "since": 1_800_000_000_000,
    "until": None,
}


VERSION = {"version": 7, "at": 1_800_000_000_000, "by": "sol", "why": f"lost {HOSTILE}", "reverts_to": 5}
RULE = {
    "name": "no-chat",
    "effect": "deny",
    "surfaces": ["chat"],
    "servers": ["prod/presto"],
    "except_groups": ["finance"],
    "why": f"leaks {HOSTILE}",
    "ask": "security in #sec",
    "since": 7,
}
PREVIEW = {
    "on": 7,
    "changes": True,
    "widens": ["no-chat"],
    "difference": [f"- {HOSTILE}"],
    "gaining": 1,
    "losing": 0,
    "rows": [
        {
            "who": f"ads-eng {HOSTILE}",
            "people": ["ana"],
            "known": 1,
            "surfaces": ["chat"],
            "servers": ["prod/presto"],
            "of_servers": 3,
            "gains": ["everything"],
            "loses": [],
        }
    ],
    "more": 0,
    "notes": [f"note {HOSTILE}"],
}
REVIEW = {
    "id": "4bf92f3577b34da6",
    "server": "prod/presto",
    "kind": "security",
    "state": "open",
    "release": "f3dc514bb31b",
    "opened_at": 1_800_000_000_000,
    "opened_by": "pegboard",
    "opened_why": "a release",
    "decided_at": None,
    "decided_by": None,
    "outcome_why": "",
    "conditions": "",
    "requested": {"groups": ["ads-eng", "sales"], "surfaces": ["cli"], "channels": [], "services": []},
    "granted": None,
    "changes": [{"what": f"tool {HOSTILE}", "before": None, "after": {}}],
    "checklist": [{"item": "Each policy is right", "holds": False}],
    "comments": [{"at": 1_800_000_000_000, "author": "sol", "text": HOSTILE}],
    "origin": {
        "submitted_by": "spiffe://example.org/ci/presto",
        "submitted_by_kind": "service",
        "submitted_at": 1_800_000_000_000,
        "message": HOSTILE,
        "kind": "git",
        "repository": "https://git.example.org/presto",
        "commit": "0123abcd",
        "dirty": True,
        "job": f"https://ci.example.org/{HOSTILE}",
        "same_code": False,
        "first": False,
        "packages": [{"name": "six", "before": "", "now": "1.17.0"}],
        "warnings": [{"code": "PB301", "place": "uv.lock", "what": HOSTILE}],
    },
    "waits_for_you": True,
    "page": "http://localhost:8400/reviews/4bf92f3577b34da6",
}


def explained(person: str, query: dict[str, str]) -> dict[str, Any]:
    allowed = "ads-eng" in PEOPLE[person]
    checks = [
        {"rule": "group", "holds": allowed, "fact": f"{person} is in \x1b[1m{PEOPLE[person]}", "source": "grants"}
    ]
    if query.get("tool") == "order":
        fact = "depends on the arguments amount"
        checks.append({"rule": "policy:call", "holds": True, "fact": fact, "source": "policies/small-orders.cedar"})
    return {
        "server": query["server"],
        "person": person,
        "surface": "cli",
        "tool": query.get("tool"),
        "allowed": allowed,
        "checks": checks,
        "steps": [_step(check) for check in checks],
        "refusal": None if allowed else refusal("access_denied", "group_not_granted").as_json(),
    }


def _step(check: dict[str, Any]) -> dict[str, Any]:
    outcome = "holds" if check["holds"] else "fails"
    if check["fact"].startswith("depends on"):
        outcome = "depends"
    named = {name: check[name] for name in ("rule", "fact", "source")}
    return {"layer": "edge", "outcome": outcome, "ask": "Ask platform in #desk.", **named}


def _token_of(scope: Any) -> str:
    return str(dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer "))


def _claims(scope: Any) -> dict[str, Any]:
    payload = _token_of(scope).split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


async def _body(receive: Any) -> bytes:
    parts = b""
    while True:
        message = await receive()
        parts += message.get("body", b"")
        if not message.get("more_body"):
            return parts


async def respond(send: Any, status: int, answer: Any, kind: bytes = b"application/json") -> None:
    body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


async def redirect(send: Any, to: str) -> None:
    await send({"type": "http.response.start", "status": 302, "headers": [(b"location", to.encode())]})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def running(project: Path) -> Iterator[Instance]:
    """An instance on a free loopback port, ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        instance = Instance(project, f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(instance, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the instance died at its start"
            assert time.monotonic() < deadline, "the instance did not start"
            threading.Event().wait(0.01)
        yield instance
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the instance did not end"
