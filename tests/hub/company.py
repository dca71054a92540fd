"""A small company to test the hub with: its servers, its grants, and a hub opened on them without a socket."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.names import ACTING_SURFACES, ServerName
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.common.settings import DEMO, HubSettings
from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.opening import open_hub
from pegboard_hub.publishing.reading import Here
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import migrate
from pegboard_hub.web.app import internal_app, public_app
from pegboard_hub.web.parts import Parts
from tests.hub.routes import forget_endpoints, late_routes
from tests.hub.statements import compiled_once

URL = "http://localhost:8400"
PRESTO = f"{URL}/mcp/prod/presto"
API = f"{URL}/api"
OPERATOR = "operator-token-of-the-test"

GRANTED = "permit (principal, action, resource);"
ADS_ONLY = 'permit (principal in Group::"ads-eng", action, resource);'


def presto(**changes: Any) -> dict[str, Any]:
    """The declaration of prod/presto, with some of its manifest changed."""
    manifest = {
        "name": "presto",
        "entry": "presto:server",
        "description": "Query the warehouse",
        "owner": "platform",
        "support_channel": "#data-platform",
        "sensitivity": "confidential",
        "requests": {"business_groups": ["ads-eng", "sales"], "surfaces": ["cli", "bot"]},
    }
    return {
        "manifest": manifest | changes,
        "tools": [
            {"name": "run_query", "description": "Run SQL.", "policy": "granted", "minutes_saved": 6},
            {"name": "get_revenue_metrics", "description": "Revenue.", "policy": "ads-revenue", "minutes_saved": 25},
        ],
        "policies": {"granted": GRANTED, "ads-revenue": ADS_ONLY},
    }


def scratch(**changes: Any) -> dict[str, Any]:
    """The declaration of dev/scratch, with some of its manifest changed."""
    manifest = {
        "name": "scratch",
        "entry": "scratch:server",
        "description": "Says what it heard",
        "owner": "tools-team",
        "support_channel": "#tools",
    }
    tools = [{"name": "echo", "policy": "granted"}]
    return {"manifest": manifest | changes, "tools": tools, "policies": {"granted": GRANTED}}


@dataclass
class Company:
    """One instance's files, written as the runtime and the operator write them."""

    home: Home
    grants: Path
    sign_in: Path | None = None
    database_url: str = ""
    notify: Path | None = None

    @property
    def settings(self) -> HubSettings:
        return HubSettings(
            public_url=URL,
            grants=self.grants,
            sign_in=self.sign_in,
            notify=self.notify,
            database_url=self.database_url,
        )

    def deploy(self, server: str, declaration: Mapping[str, Any] | str) -> str:
        """Put a release's declaration where the runtime puts it; gives its digest (empty for broken text)."""
        name = ServerName.parse(server)
        self.home.add_server(name)
        if isinstance(declaration, str):
            self.home.declaration(name).write_text(declaration)
            return ""
        declared = Declaration.model_validate(declaration)
        self.home.declaration(name).write_text(declared.model_dump_json())
        return declared.digest

    def open_channel(self, server: str, release: str) -> str:
        """Let a server deliver to the ledger, as the supervisor does; gives its token."""
        token = f"channel-of-{server}"
        path = self.home.channels
        channels = json.loads(path.read_text()) if path.exists() else {}
        channels[hashlib.sha256(token.encode()).hexdigest()] = {"server": server, "release": release}
        path.write_text(json.dumps(channels))
        return token

    def report(self, **status: Any) -> None:
        """Write the supervisor's status file."""
        self.home.status.write_text(json.dumps(status))


@dataclass
class Hub:
    """An open hub with a client at each of its doors."""

    parts: Parts
    public: httpx2.AsyncClient
    internal: httpx2.AsyncClient

    async def token(self, person: str, surface: str = "cli", resource: str = API, **more: str) -> str:
        """A token, got the way the command gets one."""
        form = {"grant_type": DEMO_GRANT, "person": person, "surface": surface, "resource": resource, **more}
        response = await self.public.post("/oauth/token", data=form)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    async def api(self, person: str, path: str, /, on: str = "cli", **query: Any) -> httpx2.Response:
        """Ask the API as a person."""
        headers = {"Authorization": f"Bearer {await self.token(person, on)}"}
        return await self.public.get(f"/api/v1/{path}", params=query, headers=headers)

    async def check(self, person: str, question: Any, /, on: str = "cli") -> httpx2.Response:
        """Ask the access check as a person."""
        headers = {"Authorization": f"Bearer {await self.token(person, on)}"}
        content = question if isinstance(question, str) else json.dumps(question)
        return await self.public.post("/api/v1/access:check", content=content, headers=headers)

    async def calls(self, person: str, /, **query: Any) -> list[dict[str, Any]]:
        """The calls a person may read."""
        found: list[dict[str, Any]] = (await self.api(person, "calls", **query)).json()["calls"]
        return found

    async def deliver(self, token: str, *records: Mapping[str, Any]) -> httpx2.Response:
        """Deliver records as a server does."""
        headers = {"Authorization": f"Bearer {token}"}
        return await self.internal.post("/internal/v1/records", json={"records": records}, headers=headers)

    async def deliver_edge(self, *refusals: Mapping[str, Any], token: str = OPERATOR) -> httpx2.Response:
        """Deliver refusals as the edge's agent does."""
        headers = {"Authorization": f"Bearer {token}"}
        return await self.internal.post("/internal/v1/edge/refusals", json={"refusals": refusals}, headers=headers)

    async def page(self, **query: str) -> str:
        """The home page's text."""
        response = await self.public.get("/", params=query)
        assert response.status_code == 200
        return response.text


def found_company(root: Path, *, reviewed: bool = False) -> Company:
    """A company with the demo's grants, both servers deployed, and the supervisor's credential.

    Args:
        root: where its files are.
        reviewed: whether later releases of prod/presto wait for reviews; else the demo's grants take them all.
    """
    company = Company(Home.open(root / "home"), root / "grants.toml")
    grants = (DEMO / "grants.toml").read_text()
    company.grants.write_text(grants.replace('releases = "any"\n', "") if reviewed else grants)
    company.deploy("prod/presto", presto())
    company.deploy("dev/scratch", scratch())
    company.home.operator_token.write_text(OPERATOR)
    return company


_newest_schema: list[bytes] = []
"""An embedded database with the newest schema and nothing in it, made once by each worker."""


async def begin_with_the_newest_schema(file: Path) -> None:
    """Make `file` an embedded database that needs no migration, and has nothing in it."""
    if not _newest_schema:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            database = Database.at(Path(folder) / "new.db")
            await migrate(database)
            await database.close()
            _newest_schema.append((Path(folder) / "new.db").read_bytes())
    file.write_bytes(_newest_schema[0])  # noqa: ASYNC240 - nobody waits for a test


@asynccontextmanager
async def opened(company: Company, changed: Callable[[Parts], Parts] = lambda parts: parts) -> AsyncIterator[Hub]:
    """The company's hub, without its watching tasks; with some of its parts changed, where a test plays one."""
    if not company.database_url and not company.home.database.exists():
        await begin_with_the_newest_schema(company.home.database)
    async with AsyncExitStack() as stack:
        with compiled_once():
            found = await stack.enter_async_context(open_hub(company.home, company.settings))
        with warnings.catch_warnings(action="ignore"):
            found.publishing.reading = Here()  # a process for each would cost every test a second
        parts = changed(found)
        with late_routes():
            public = httpx2.ASGITransport(public_app(parts))
            internal = httpx2.ASGITransport(internal_app(parts))
        async with (
            httpx2.AsyncClient(transport=public, base_url=URL) as outside,
            httpx2.AsyncClient(transport=internal, base_url="http://hub") as inside,
        ):
            yield Hub(parts, outside, inside)
            forget_endpoints()


@asynccontextmanager
async def beside(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """One of the hub's tasks beside the test. It has ended when this ends, and outlives no database that it uses."""
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def plain(page: str) -> str:
    """A page as one reads it: its words, a space between them."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def who(sub: str = "ana", surface: str = "cli") -> dict[str, Any]:
    """A verified caller as records have it."""
    client_id = f"pegboard-{surface}"
    acts = {"act": client_id} if surface in ACTING_SURFACES else {}
    return {"sub": sub, "sub_type": "person", "surface": surface, "client_id": client_id, **acts}


def intent(id_: str, at_ms: int, sub: str = "ana", tool: str = "run_query") -> dict[str, Any]:
    """The record of an allowed call."""
    return {
        "kind": "intent",
        "id": id_,
        "at_ms": at_ms,
        "release": "what the record claims",
        "who": who(sub),
        "tool": tool,
        "policy": "granted",
        "policy_version": "abc",
        "arguments_digest": "d",
        "arguments_bytes": 2,
        "request_id": f"request-{id_}",
        "trace_id": f"trace-{id_}",
    }


def outcome(id_: str, at_ms: int, status: str = "ok") -> dict[str, Any]:
    """The record of how a call ended."""
    return {"kind": "outcome", "id": id_, "at_ms": at_ms, "status": status, "duration_ms": 12.5}


def call(id_: str, at_ms: int, sub: str = "ana", tool: str = "run_query", status: str = "ok") -> list[dict[str, Any]]:
    """Both records of a call that was allowed."""
    return [intent(id_, at_ms, sub, tool), outcome(id_, at_ms, status)]


def denial(id_: str, at_ms: int, sub: str | None = "fay", **changes: Any) -> dict[str, Any]:
    """The record of a refusal in the server."""
    told = {
        "code": "tool_unavailable",
        "reason": "tool_unavailable",
        "detail": "policy ads-revenue does not permit it",
    }
    return {
        "kind": "denial",
        "id": id_,
        "at_ms": at_ms,
        "release": "r",
        "who": who(sub) if sub else None,
        "tool": "get_revenue_metrics",
        "policy": "ads-revenue",
        "policy_version": "abc",
        "request_id": f"request-{id_}",
        **told,
        **changes,
    }


def edge_refusal(request_id: str, at_ms: int, sub: str | None = "ana", **changes: Any) -> dict[str, Any]:
    """One refusal from the edge's access log."""
    return {
        "request_id": request_id,
        "at_ms": at_ms,
        "server": "dev/scratch",
        "status": 403,
        "code": "access_denied",
        "reason": "surface_not_granted",
        "who": who(sub, "chat") if sub else None,
        "tool": "echo",
        "method": "tools/call",
        **changes,
    }
