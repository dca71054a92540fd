"""Generated worlds on real parts: hub, edge agent and Envoy run once; grants, policies and servers change under them.

A world goes in where an operator and an author put it: the directory's and the grants file, a project's folder with
its policies, the declaration that the runtime pins. From there everything is the product's own: the registry loads
it, signs the bundles, the agent renders Envoy's configuration, and each server decides with its own bundle file.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool
from pegboard.core.names import PERSON_SURFACES, ServerName
from pegboard.core.spiffe import trust_domain_of
from pegboard.core.token import TOKEN_TYPE
from pegboard.project import load_project
from pegboard.remote.bundle import BundleFile
from pegboard.remote.metrics import ServerMeter
from pegboard.remote.spool import Spool
from pegboard.testing.approvals import InMemoryApprovals
from pegboard.transport.application import build_application
from pegboard.transport.http import GovernedApp
from pegboard_hub.common.home import replace_file
from pegboard_hub.common.settings import HubSettings, ServiceSettings
from pegboard_hub.demo.forgery import claims_of
from pegboard_hub.identity.directory import open_directory
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.opening import open_hub
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Lifecycle, RegisteredServer
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.app import public_app
from pegboard_hub.web.parts import Parts
from tests.attacks.wire import ACCEPT, META, MODERN
from tests.system.edge_rig import DEADLINE_S, Rig
from tests.system.one_answer.policies import SERVICES
from tests.system.one_answer.worlds import CHANNELS, READ_ONLY, SERVERS, WHY, Call, Grant, World

IN_FORCE_S = 2.0
"""Seconds after which a change must be in force at the edge."""

UNLIMITED = "[limits]\naddress = 0\naddress_in_all = 0\nperson = 0\nserver = 0\n"
"""All that is asked comes from a few people at one address."""


@dataclass
class Desk:
    """One server's place: a socket that stays, and whatever application the current world puts behind it.

    Attributes:
        arrivals: how many requests reached the server at all.
        ran: what its tools were run with, in order.
    """

    arrivals: int = 0
    ran: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    application: GovernedApp | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.application is not None
        self.arrivals += 1
        await self.application(scope, receive, send)

    def tools(self, names: Iterable[str]) -> Server:
        """An author's server whose tools note what they are run with."""
        server = Server()
        for name in names:
            hints = ToolAnnotations(read_only_hint=name in READ_ONLY)
            server.tool(name=name, annotations=hints)(authorize_tool(policy=name)(self._tool(name)))
        return server

    def _tool(self, name: str) -> Any:
        async def tool(
            limit: int | None = None,
            table: str | None = None,
            sure: bool | None = None,
            tags: list[str] | None = None,
        ) -> str:
            self.ran.append((name, {"limit": limit, "table": table, "sure": sure, "tags": tags}))
            return "done"

        return tool


class Town(Rig):
    """The rig of the edge, with the real hub in the place of a twin and real servers in the place of upstreams."""

    trust_domain = trust_domain_of(SERVICES[0])
    parts: Parts
    in_force_at: float = 0.0

    def desk(self, _server: str) -> Desk:
        """The place of a server."""
        return Desk()

    def start(self, envoy: bool = True, services: bool = True, **agent: Any) -> None:
        """Open the hub on no server yet, and start Envoy."""
        self._thread.start()
        self._directory, self._grants = self.home.root / "directory.toml", self.home.root / "grants.toml"
        self._grants.write_text(UNLIMITED)
        self._write_directory({})
        self.home.operator_token.write_text("operator")
        self.desks = {server: self.desk(server) for server in SERVERS}
        self._world_task: asyncio.Future[None] | None = None
        self._hub = AsyncExitStack()
        door = ServiceSettings(self.mtls_port, (self.trust_domain,))
        where = {"grants": self._grants, "directory": self._directory}
        settings = HubSettings(public_url=self.public_url, services=door, **where)
        self.parts = self.run(self._hub.enter_async_context(open_hub(self.home, settings)))
        self._signer = open_keys(self.home).tokens
        self.serve(public_app(self.parts), self.home.hub_socket)
        for server, desk in self.desks.items():
            self.serve(desk, self.socket(server))
        if services:
            self.start_identity()
        self.start_agent(**agent)
        if envoy:
            self.start_envoy()
        self.edge = self.client()
        self.by_certificate = {name: self.service(self.authority.mint(name)) for name in SERVICES}
        self.behind = {server: _client_of(self.socket(server), self.public_url) for server in SERVERS}

    def stop(self) -> None:
        for client in (self.edge, *self.behind.values(), *self.by_certificate.values()):
            client.close()
        self._end_world()
        self.run(self._hub.aclose())
        super().stop()

    # A world

    def become(self, world: World) -> None:
        """Make this world the one that hub, edge and servers decide in."""
        self._end_world()
        applications = {server: self._publish(server, world) for server in SERVERS}
        self._write_directory(world.people)
        self.parts.sign_in.directory = open_directory(self._directory, self.public_url)
        self.run(self._begun_anew())
        self.run(self._ruled(world))
        granted = (_granted(server, world.grants[server]) for server in SERVERS)
        replace_file(self._grants, "\n".join((UNLIMITED, *granted)))
        self.run(self._followed(world))
        started: asyncio.Event = self.run(_event())
        self._ending: asyncio.Event = self.run(_event())
        work = self._run_world(applications, started)
        self._world_task = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[assignment]
        self.run(started.wait())

    async def _begun_anew(self) -> None:
        """Let every server of the world before be callable again."""
        async with self.parts.registry.changing() as changing:
            for server in self.parts.registry.current.servers:
                values = {"lifecycle": Lifecycle.APPROVED, "lifecycle_why": ""}
                await changing.apply(Change(server, PEGBOARD, "begin anew", "another world", values=values))

    async def _ruled(self, world: World) -> None:
        """Bring the world's rules into force, as somebody at the machine does."""
        ruling = self.parts.ruling
        proposed = await ruling.propose("\n".join(rule.text for rule in world.rules), ruling.kept.version)
        if proposed.changes:
            await ruling.apply(proposed, MACHINE.actor, "another world", widening=True)

    async def _followed(self, world: World) -> None:
        """Wait until the registry has taken the world over and Envoy decides with it."""
        while not await self.parts.registry.refresh():
            await asyncio.sleep(0.01)
        assert not self.parts.registry.current.problems
        async with self.parts.registry.changing() as changing:
            for server, grant in world.grants.items():
                found = changing.server(server)
                assert found.reachable
                await changing.apply(Change(server, PEGBOARD, "stand", "this world", **_standing(found, grant)))
        # Bundles that the edge's does not wait for: nobody writes them here beside this.
        await self.parts.registry.resign()
        assert self.agent is not None
        await self.agent.refresh()
        self.in_force_at = time.monotonic() + IN_FORCE_S

    def _publish(self, server: str, world: World) -> GovernedApp:
        """Write the project's folder, pin its declaration, and build its server."""
        name, policies = ServerName.parse(server), world.policies[server]
        folder = self.home.root / "projects" / server
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "policies").mkdir(parents=True)
        (folder / "pegboard.toml").write_text(_manifest(name, world.grants[server].sensitivity))
        for tool, policy in policies.items():
            (folder / "policies" / f"{tool}.cedar").write_text(policy.text, encoding="utf-8")
        desk = self.desks[server]
        project = load_project(folder, desk.tools(policies))
        self.home.add_server(name)
        replace_file(self.home.declaration(name), project.declaration.model_dump_json())
        spool = self.home.root / "spools" / server
        spool.mkdir(parents=True, exist_ok=True)
        bundle = BundleFile(
            self.home.bundle(name), self.home.bundle_keys, name, self.public_url, spool / "accepted.jws"
        )
        release = project.declaration.digest
        meter = ServerMeter(project.governed)
        approvals = InMemoryApprovals(bundle, release, f"{self.public_url}/approvals")
        records = Spool(spool, b"digest")
        key = b"k" * 32
        return build_application(
            project, name, self.public_url, bundle, records, release, meter, approvals, "process", key
        )

    async def _run_world(self, applications: Mapping[str, GovernedApp], started: asyncio.Event) -> None:
        async with AsyncExitStack() as running:
            for server, application in applications.items():
                await running.enter_async_context(application.running())
                self.desks[server].application = application
            started.set()
            await self._ending.wait()

    def _end_world(self) -> None:
        if self._world_task is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._world_task.result(DEADLINE_S)  # type: ignore[call-arg]
            self._world_task = None

    def _write_directory(self, people: Mapping[str, tuple[str, ...]]) -> None:
        lines = []
        for person, groups in people.items():
            who = f'name = "{person}"\nemail = "{person}@example.com"\ngroups = {json.dumps(groups)}'
            lines.append(f"[people.{person}]\n{who}")
        for surface in PERSON_SURFACES:
            channels = f"\nchannels = {json.dumps(CHANNELS)}" if surface == "bot" else ""
            lines.append(f'[clients.pegboard-{surface}]\nsurface = "{surface}"{channels}')
        head = "" if people else "people = {}\n"
        replace_file(self._directory, head + "\n".join(lines))

    # Asking

    def pass_for(self, call: Call, resource: str) -> str:
        """A token as the hub issues it; signed with the hub's key where it issues none: services, unknown scopes.

        Nor does it issue any for a server that cannot be called; somebody may have one from before.
        """
        scope = "api" if resource == self.api else call.scope
        if call.person is not None:
            there = self.parts.registry.current.deployed(call.server) is not None
            token = self.person_pass(call.person, call.surface, call.channel, resource if there else self.api)
            return self.signed({**claims_of(token), "scope": scope, "aud": resource})
        now = int(time.time())
        claims = {
            "iss": self.public_url,
            "sub": call.service,
            "sub_type": "service",
            "groups": [],
            "client_id": call.service,
            "surface": call.surface,
            "scope": scope,
            "aud": resource,
            "iat": now,
            "exp": now + 300,
            "jti": uuid.uuid4().hex,
        }
        return self.signed(claims)

    def way_in(self, call: Call) -> httpx2.Client:
        """At the edge: a service comes with its certificate, on a port of its own."""
        return self.by_certificate[call.service] if call.service else self.edge

    def signed(self, claims: Mapping[str, Any]) -> str:
        """A token that says what is given, signed with the hub's key."""
        return self._signer.sign(claims, TOKEN_TYPE)

    def ask(self, token: str, path: str, question: Any = None, **query: Any) -> Any:
        """Ask the hub's API, through the edge."""
        response = self.answer(token, path, question, **query)
        assert response.status_code == 200, response.text
        return response.json()

    def answer(self, token: str, path: str, question: Any = None, **query: Any) -> httpx2.Response:
        """What the hub's API answers, refusals too."""
        headers = {"authorization": f"Bearer {token}"}
        url = f"/api/v1/{path}"
        if question is None:
            return self.edge.get(url, params=query, headers=headers)
        return self.edge.post(url, json=question, headers=headers)

    def person_pass(self, person: str, surface: str, channel: str | None, resource: str) -> str:
        """A person's token, as the hub issues it."""
        return self.parts.sign_in.issue(person, surface, channel, resource).access_token

    def groups(self, person: str) -> list[str]:
        """The groups that a person's token states."""
        return list(self.parts.sign_in.directory.people[person].groups)

    def at(self, server: str) -> str:
        """The audience of a server's tokens."""
        return ServerName.parse(server).resource_url(self.public_url)

    @property
    def api(self) -> str:
        """The audience of the API's tokens."""
        return f"{self.public_url}/api"


def message(method: str, **params: Any) -> bytes:
    """A modern request's body."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}
    return json.dumps(body).encode()


def headers_of(token: str, method: str, name: str = "") -> dict[str, str]:
    """A modern request's headers."""
    found = {**ACCEPT, "authorization": f"Bearer {token}", "mcp-protocol-version": MODERN, "mcp-method": method}
    return {**found, "mcp-name": name} if name else found


@contextmanager
def running_town() -> Iterator[Town]:
    """A town that is up, and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    town = Town(folder)
    try:
        town.start()
        yield town
    finally:
        town.stop()
        shutil.rmtree(folder)


async def _event() -> asyncio.Event:
    return asyncio.Event()


def _client_of(socket: Path, public_url: str) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket)), base_url=public_url, timeout=DEADLINE_S)


def _manifest(name: ServerName, sensitivity: str) -> str:
    return (
        f'sensitivity = "{sensitivity}"\n'
        f'name = "{name.name}"\nentry = "nowhere:server"\ndescription = "A server of a generated world"\n'
        f'owner = "platform"\nsupport_channel = \'#data "platform" 100%\'\n'
    )


def _standing(server: RegisteredServer, grant: Grant) -> dict[str, Any]:
    """The change that makes a live server stand where a world has it."""
    match grant.lifecycle:
        case "waiting":
            return {"values": {"lifecycle": Lifecycle.IN_REVIEW}, "undeploys": True, "waiting": server.release}
        case "approved":
            return {"undeploys": True}
        case lifecycle:
            return {"values": {"lifecycle": Lifecycle(lifecycle)}}


def _granted(server: str, grant: Grant) -> str:
    def said(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    lists = {kind: said(getattr(grant, kind)) for kind in ("groups", "surfaces", "channels", "services")}
    lines = [
        f'[servers."{server}"]',
        f'source = "projects/{server}"',
        'releases = "any"',
        *(f"{k} = {v}" for k, v in lists.items()),
    ]
    lines += [f"stopped = {said(grant.stopped)}"] if grant.stopped else []
    lines += [f"stopped_tools.{tool} = {said(WHY)}" for tool in grant.stopped_tools]
    return "\n".join(lines) + "\n"
