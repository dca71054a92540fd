"""Deployments to test with: submitted servers in a company's hub, and a runtime that does as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from sqlalchemy import insert, select, update

from pegboard.core.publishing import Artifact, State, Trouble
from pegboard.core.release import Declaration
from pegboard_hub.publishing import artifacts
from pegboard_hub.publishing.deployment_store import find
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.model import submission_events, submissions
from pegboard_hub.publishing.orders import (
    DESIRED,
    OBSERVED,
    Desired,
    Observed,
    ObservedRelease,
    Replica,
    ReplicaState,
    Role,
)
from pegboard_hub.publishing.rollout import Deployment
from pegboard_hub.publishing.serving import reaching_by, serving_by
from pegboard_hub.publishing.steering import Steering
from pegboard_hub.registry import store
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Access, Lifecycle, Release
from pegboard_hub.registry.tables import releases
from pegboard_hub.web.parts import Parts
from tests.hub.company import GRANTED, OPERATOR, Company, Hub, opened

SERVER = "prod/weather"
NOW_MS = int(time.time() - 86_400) * 1000
"""When tests begin: yesterday, as the ledger takes no call for one that is still to come."""


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self, at: float = NOW_MS / 1000) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += seconds


def declared(version: int, server: str = SERVER, **manifest: Any) -> Declaration:
    """A release of a server; each version is another."""
    name = server.partition("/")[2]
    artifact = Artifact(
        server=server, source=f"{version:064x}", lock="0" * 64, project="1" * 64, python="3.12", kit="1.0"
    )
    told = {
        "name": name,
        "entry": f"{name}:server",
        "description": "Forecasts",
        "owner": "platform",
        "support_channel": "#platform",
        **manifest,
    }
    tools = [{"name": "forecast", "description": f"The forecast, {version}.", "policy": "granted", "read_only": True}]
    return Declaration.model_validate(
        {"manifest": told, "tools": tools, "policies": {"granted": GRANTED}, "artifact": artifact.digest}
    )


def artifact_of(version: int, server: str = SERVER) -> Artifact:
    """What a release of `declared` was built into."""
    return Artifact(
        server=server, source=f"{version:064x}", lock="0" * 64, project="1" * 64, python="3.12", kit="1.0"
    )


@dataclass
class Machine:
    """A runtime in the test's hands: it has what should run, in the state that the test says.

    Attributes:
        broken: releases that do not come up, with their last words.
        slow: releases of which nothing is ready yet.
        asleep: releases whose replicas sleep.
        restarts: of replicas of a release.
        notes: of a release, for its operators.
    """

    hub: Hub
    broken: dict[str, str] = field(default_factory=dict)
    troubled: dict[str, Trouble] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asleep: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    told: Desired | None = None

    async def turn(self) -> None:
        """Hear what should run, and say what does."""
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        answer = await self.hub.internal.get(DESIRED, headers=headers)
        assert answer.status_code == 200, answer.text
        self.told = Desired.model_validate_json(answer.content)
        word = self.observed(self.told).model_dump_json()
        answer = await self.hub.internal.post(OBSERVED, content=word, headers=headers)
        assert answer.status_code == 204, answer.text

    def observed(self, found: Desired) -> Observed:
        """What runs, where everything was done."""
        releases = tuple(
            ObservedRelease(
                server=server.server,
                release=each.release,
                step="running",
                trouble=self.troubled.get(each.release),
                notes=self.notes.get(each.release, ()),
                replicas=tuple(
                    self._replica(server.server, each.release, number)
                    for number in range(max(each.scale.min, int(each.role is not Role.CANDIDATE)))
                ),
            )
            for server in found.servers
            for each in server.releases
        )
        return Observed(runtime="machine", version=found.version, releases=releases)

    def roles(self, server: str = SERVER) -> dict[str, str]:
        """What it was told last: the role of each release."""
        assert self.told is not None
        return {
            each.release: each.role.value for of in self.told.servers if of.server == server for each in of.releases
        }

    def _replica(self, server: str, release: str, number: int) -> Replica:
        id_ = f"{release[:8]}-{number}"
        state: ReplicaState = "failing" if release in self.broken else "starting" if release in self.slow else "ready"
        if release in self.asleep:
            state = "asleep"
        return Replica(
            id=id_,
            address=f"unix:s/{server.replace('/', '.')}/{id_}.sock",
            state=state,
            restarts=self.restarts.get(release, 0),
            last_failure=self.broken.get(release, ""),
        )


@dataclass
class Rig:
    """A hub with one submitted server, its deployments, and a machine that runs them."""

    hub: Hub
    clock: Clock
    deployments: Deployments
    steering: Steering
    machine: Machine
    versions: dict[str, int] = field(default_factory=dict)

    async def approve(self, version: int, server: str = SERVER, **manifest: Any) -> str:
        """A submission that is checked and approved, as the rest of the pipeline leaves it; gives its id."""
        declaration = declared(version, server, **manifest)
        id_ = (
            f"sub{version:029x}"
            if server == SERVER
            else hashlib.sha256(f"{server} {version}".encode()).hexdigest()[:32]
        )
        registry = self.hub.parts.registry
        async with registry.changing() as changing:
            if changing.find(server) is None:
                await changing.register(server, _record(declaration), PEGBOARD, "submitted")
                values = {"submitted": True, "lifecycle": Lifecycle.APPROVED}
                granted = Access(groups=("platform", "ads-eng"), surfaces=("cli", "ide"))
                await changing.apply(Change(server, PEGBOARD, "submit", "submitted", values=values, granted=granted))
            release = Release.of(declaration)
            await store.add_release(changing.connection, server, release, changing.now_ms)
            await store.approve_release(changing.connection, server, release.digest, changing.now_ms)
            await changing.connection.execute(
                insert(submissions).values(
                    id=id_,
                    server=server,
                    source=f"{version:064x}",
                    state=State.APPROVED,
                    step="approved",
                    release=declaration.digest,
                    artifact=artifact_of(version, server).model_dump(mode="json"),
                    declaration=declaration.model_dump(mode="json"),
                    signature=f"signed {version}",
                    findings=[],
                    provenance={},
                    actor="ana",
                    actor_kind="person",
                    attempt=1,
                    created_at_ms=NOW_MS + version,
                    updated_at_ms=NOW_MS + version,
                )
            )
            await artifacts.use(changing.connection, id_, [f"{version:064x}"])
        return id_

    async def reject(self, id_: str) -> None:
        """Make a submission one that reviews turned down."""
        async with self.hub.parts.database.write() as connection:
            row = update(submissions).where(submissions.c.id == id_)
            await connection.execute(row.values(state=State.FAILED))
            digest = await connection.scalar(select(submissions.c.release).where(submissions.c.id == id_))
            await connection.execute(update(releases).where(releases.c.digest == digest).values(approved_at_ms=None))

    async def post(self, person: str, action: str, server: str = SERVER, **body: Any) -> httpx2.Response:
        """Ask the API to do something with a server, as a person."""
        headers = {"Authorization": f"Bearer {await self.hub.token(person)}"}
        return await self.hub.public.post(f"/api/v1/servers/{server}/{action}", json=body, headers=headers)

    async def look(self) -> None:
        """The leading hub looks, the machine does, and the hub looks again."""
        await self.deployments.look()
        await self.machine.turn()
        await self.deployments.look()

    async def live(self, *versions: int, **manifest: Any) -> None:
        """Have versions live one after the other, each through its watch window."""
        for version in versions:
            await self.approve(version, **manifest)
            await self.look()
            self.clock.pass_s(301)
            await self.look()
            self.clock.pass_s(61)
            await self.look()

    async def now(self, server: str = SERVER) -> Deployment:
        """The deployment as the tables say."""
        async with self.hub.parts.database.read() as connection:
            return await find(connection, server)

    async def state(self, id_: str) -> tuple[str, str]:
        """State and step of a submission."""
        async with self.hub.parts.database.read() as connection:
            row = (
                await connection.execute(
                    select(submissions.c.state, submissions.c.step).where(submissions.c.id == id_)
                )
            ).one()
        return row.state, row.step

    async def told(self, id_: str) -> list[str]:
        """What its author reads, line by line."""
        async with self.hub.parts.database.read() as connection:
            rows = await connection.execute(
                select(submission_events)
                .where(submission_events.c.submission == id_)
                .order_by(submission_events.c.seq)
            )
            return [f"{row.state}: {row.step}: {row.what}" for row in rows]

    def serves(self, server: str = SERVER) -> str | None:
        """The release that the registry says is called."""
        found = self.hub.parts.registry.current.servers[server].release
        return found.digest if found else None

    def endpoints(self, server: str = SERVER) -> dict[str, int]:
        """Percent of each release, as edges are told in the bundle."""
        text = self.hub.parts.rotation.keys.home.edge_bundle.read_text()
        bundle = json.loads(payload_of(text))
        found = [each for each in bundle["servers"] if each["server"] == server]
        return {each["release"]: each["percent"] for of in found for each in of.get("endpoints", ())}

    async def deliver(
        self, version: int, *records: Iterable[Mapping[str, Any]], server: str = SERVER, **manifest: Any
    ) -> None:
        """Have a release's replica deliver records of calls."""
        release = declared(version, server, **manifest).digest
        token = f"channel-of-{server}-{release}"
        _open_channel(self.hub, token, server, release)
        flat = [record for each in records for record in each]
        for start in range(0, len(flat), 200):
            answer = await self.hub.deliver(token, *flat[start : start + 200])
            assert answer.status_code == 200, answer.text


@asynccontextmanager
async def rig_of(company: Company, also: Callable[[Parts], Parts] = lambda parts: parts) -> AsyncIterator[Rig]:
    """The company's hub, whose time is the test's; with some of its parts changed, where a test plays one."""
    clock = Clock()

    def changed(parts: Parts) -> Parts:
        registry = parts.registry
        registry._clock = clock  # the one clock of every table that a move writes
        deployments = Deployments(
            parts.database,
            registry,
            clock=clock,
            serve=serving_by(lambda: registry.grants_file),
            egress=reaching_by(lambda: registry.grants_file),
            meter=parts.meter,
        )
        parts.status._submitted = lambda: deployments.healths
        steering = Steering(parts.database, registry, deployments, lambda: parts.reviewing.rights.roles)
        return also(replace(parts, deployments=deployments, steering=steering))

    async with opened(company, changed) as hub:
        parts = hub.parts
        yield Rig(hub, clock, parts.deployments, parts.steering, Machine(hub))


def _record(declaration: Declaration) -> dict[str, Any]:
    manifest = declaration.manifest
    return {
        "description": manifest.description,
        "owner": manifest.owner,
        "support_channel": manifest.support_channel,
    }


def payload_of(text: str) -> str:
    """What a signed text says."""
    body = text.split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


def _open_channel(hub: Hub, token: str, server: str, release: str) -> None:
    path = hub.parts.rotation.keys.home.channels
    channels = json.loads(path.read_text()) if path.exists() else {}
    channels[hashlib.sha256(token.encode()).hexdigest()] = {"server": server, "release": release}
    path.write_text(json.dumps(channels))
