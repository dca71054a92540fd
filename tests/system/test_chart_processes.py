"""The chart, run: every container that Helm renders comes up as a process with the very command, variables, files and
user of its manifest, in a network of its own; a submitted project becomes a live pod, a person's call reaches it
through the chart's edge, and an upgrade loses nothing of it.

The cluster's API is played, and a node stood in for: nothing here is a cluster's."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.system.chart_people import at_the_hub, followed, joined, outside, project, submitted, token_of, tool
from tests.system.chart_rig import Kubelet, World, aside, cluster_and_company
from tests.system.kubelet import possible

pytestmark = [
    pytest.mark.system,
    pytest.mark.heavy,
    pytest.mark.anyio,
    pytest.mark.xdist_group("chart"),
    pytest.mark.skipif(not possible(), reason="root, ip, bwrap and setpriv are needed to stand in for a node"),
]

SERVER, TOOL = "dev/desk", "desk_look_up"
ASKED = {"topic": "opening hours"}
BEGAN = time.monotonic()


def tell(what: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {what}", flush=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(folder: Path, anyio_backend: str) -> AsyncIterator[World]:
    """A chart that is installed as the guide says, with an edge, and a node that runs what is scheduled."""
    async with cluster_and_company(folder) as made:
        await made.migrate()
        tell("the database is migrated")
        for name in ("pegboard-hub", "pegboard-runtime", "pegboard-builder"):
            await made.start(name)
            tell(f"{name} is ready")
        await joined(made)
        edge = await made.start("pegboard-edge-a")
        made.node.name("mcp.acme.com", edge.address)
        tell("the edge is ready")
        running = asyncio.create_task(Kubelet(made).run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_submitted_project_becomes_a_live_pod(world: World, folder: Path) -> None:
    archive = await aside(lambda: project(world.packages, folder))
    tell("an author has a project")
    async with at_the_hub(world.pods["pegboard-hub"]) as client:
        states = await followed(client, await submitted(client, SERVER, archive), tell)
    assert states[-1] == "live", "\n".join(each.said() for each in world.node.pods.values())
    assert states[:3] == ["submitted", "built", "checked"]


async def test_a_builder_that_cannot_make_its_sandbox_does_not_start_and_says_why(world: World) -> None:
    """As where the cluster's policy takes the pod's `procMount` away."""
    closed = world.twin("pegboard-builder", lambda spec: spec["containers"][0]["securityContext"].pop("procMount"))
    ended = await aside(lambda: closed.start("builder").wait(60))
    assert ended == 1
    for words in ("bubblewrap does not work here", "docs/guides/kubernetes.md, Building"):
        assert words in closed.said()


async def recorded(world: World, token: str) -> set[tuple[str, str, str]]:
    """Who called what of the server, and how it ended, as the API says once the hub answers."""
    async with asyncio.timeout(60), outside(world, authorization=f"Bearer {token}") as http:
        while (answer := await http.get("/api/v1/calls", params={"server": SERVER})).status_code == 503:
            await asyncio.sleep(0.2)
    assert answer.status_code == 200, answer.text
    return {(each["person"], each["tool"], each["status"]) for each in answer.json()["calls"]}


async def until_recorded(world: World, token: str, call: tuple[str, str, str]) -> None:
    """Records arrive when they are delivered."""
    async with asyncio.timeout(60):
        while call not in await recorded(world, token):
            await asyncio.sleep(0.2)


async def test_a_person_calls_it_through_the_edge_and_the_ledger_has_the_call(world: World) -> None:
    """Each signs in at the company's login; layer 1 refuses whoever is in no group, and whoever shows nothing."""
    token, api = await token_of(world, "ana", SERVER, "api")
    tell("ana is signed in")
    assert (await tool(world, token, SERVER, TOOL, **ASKED))["answer"].startswith("Weekdays")
    tell("and has called the pod")
    (other,) = await token_of(world, "gus", SERVER)
    for bearer, status in (({"authorization": f"Bearer {other}"}, 403), ({}, 401)):
        async with outside(world, **bearer) as http:
            refused = await http.post(f"/mcp/{SERVER}", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert refused.status_code == status, refused.text
    await until_recorded(world, api, ("ana", TOOL, "ok"))


async def test_an_upgrade_replaces_what_changed_and_loses_nothing(world: World) -> None:
    """The migration runs again; hub and runtime get new pods; the server's stay, and answer while those are away."""
    token, api = await token_of(world, "ana", SERVER, "api")
    servers, before = world.cluster.pods(), await recorded(world, api)
    world.values["hub"]["processes"] = 1
    world.values["runtime"]["egress"] = {"db.acme.com:5432": ["10.9.1.0/24"]}
    away: list[str] = []

    async def meanwhile(name: str) -> None:
        tell(f"{name} is away")
        away.append(name)
        assert (await tool(world, token, SERVER, TOOL, **ASKED))["topic"] == "opening hours"

    assert await world.upgrade(meanwhile) == ["pegboard-hub", "pegboard-runtime"] == away
    tell("the upgrade is done")
    assert (await tool(world, token, SERVER, TOOL, **ASKED))["topic"] == "opening hours"
    assert await recorded(world, api) >= before
    assert world.cluster.pods() == servers
