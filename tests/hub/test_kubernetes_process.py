"""`pegboard runtime kubernetes` between a real hub's internal door and a cluster that is played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import kmock
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from typer.testing import CliRunner

from pegboard.core.address import parse
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.publishing import RELEASE_TYPE, SignedRelease
from pegboard_hub.common.asking import NotTheHub
from pegboard_hub.common.runtimes import (
    RuntimeFile,
    channel_token,
    digest_of,
    known_runtimes,
    new_runtime,
    read_runtime_file,
)
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.publishing.orders import (
    DESIRED,
    OBSERVED,
    PLATFORM_WHEEL,
    RELEASE_KEYS,
    Desired,
    DesiredServer,
    Observed,
)
from pegboard_hub.runtime.kubernetes.api import Cluster
from pegboard_hub.runtime.kubernetes.asking import PodAsker, Said, ask_all
from pegboard_hub.runtime.kubernetes.objects import server_name
from pegboard_hub.runtime.kubernetes.process import ProcessSettings, RuntimeProcess
from pegboard_hub.upkeep.runtimes import runtime
from pegboard_hub.web.app import internal_app
from tests.hub.company import OPERATOR, Company, Hub
from tests.hub.fake_cluster import FakeCluster
from tests.hub.kube_rig import DIGEST, SERVER, release, settings
from tests.hub.publishing_rig import Project, released, states

pytestmark = pytest.mark.anyio


class Doors:
    """The hub's internal door, at which the test says what should run."""

    def __init__(self, hub: Hub) -> None:
        self.desired: Desired | None = None
        self.observed: list[Observed] = []
        self.app = Starlette(
            routes=[
                Route(DESIRED, self._say),
                Route(OBSERVED, self._hear, methods=["POST"]),
                Mount("/", internal_app(hub.parts)),
            ]
        )

    async def _say(self, request: Request) -> Response:
        while self.desired is None or request.query_params["version"] == self.desired.version:
            await asyncio.sleep(0.01)
        return Response(self.desired.model_dump_json(), media_type="application/json")

    async def _hear(self, request: Request) -> Response:
        self.observed.append(Observed.model_validate_json(await request.body()))
        return Response(status_code=204)


def known_to(company: Company, namespace: str) -> RuntimeFile:
    """A runtime that the hub knows, for servers of one namespace."""
    made = new_runtime("kubernetes")
    company.home.runtimes.mkdir(exist_ok=True)
    known = {"name": "kubernetes", "digest": digest_of(made.credential), "namespaces": [namespace]}
    (company.home.runtimes / "kubernetes.json").write_text(json.dumps(known), encoding="utf-8")
    return made


@pytest.fixture
def credential(company: Company) -> RuntimeFile:
    return known_to(company, "prod")


@pytest.fixture
async def cluster(anyio_backend: Any) -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as made:
        yield made


@pytest.fixture
async def there(cluster: FakeCluster) -> AsyncIterator[Cluster]:
    async with kmock.Server(cluster) as listening:
        yield Cluster.at("pegboard-servers", str(listening.url))


def at(folder: Path, credential: RuntimeFile) -> ProcessSettings:
    return ProcessSettings(settings(), credential, folder / "no.sock", folder / "r.sock", folder / "runtime")


async def until(wanted: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    async with asyncio.timeout(30):
        while not wanted():
            meanwhile()
            await asyncio.sleep(0.02)


async def test_what_the_hub_desires_becomes_pods_and_what_they_do_becomes_known(
    hub: Hub, company: Company, credential: RuntimeFile, cluster: FakeCluster, there: Cluster, tmp_path: Path
) -> None:
    key = new_private_key()
    company.home.release_keys.write_text(json.dumps(public_jwks(key)), encoding="utf-8")
    doors = Doors(hub)
    running = RuntimeProcess(at(tmp_path, credential), there, httpx2.ASGITransport(doors.app))
    task = asyncio.create_task(running.run())
    try:
        wanted = release()
        said = SignedRelease(
            server=str(SERVER),
            release=wanted.release,
            artifact=wanted.artifact.digest,
            source=wanted.artifact.source,
            sbom=DIGEST,
            submitted_by="jo",
            at=1,
        )
        signature = Signer(key).sign(said.model_dump(mode="json"), RELEASE_TYPE)
        signed = wanted.model_copy(update={"signature": signature})
        doors.desired = Desired(version="1", servers=(DesiredServer(server=str(SERVER), releases=(signed,)),))

        def ready() -> bool:
            last = doors.observed[-1] if doors.observed else None
            return bool(last and last.releases and [r.state for r in last.releases[0].replicas] == ["ready"])

        await until(ready, cluster.settle)
        assert doors.observed[-1].runtime == "kubernetes"
        # The channel that its pod was given is one that this hub knows.
        token = channel_token("kubernetes", digest_of(credential.credential), SERVER, wanted.release)
        assert hub.parts.channels.of(token).server == str(SERVER)
        doors.desired = Desired(version="2", servers=())
        await until(lambda: cluster.names("Deployment") == [] and cluster.pods() == [], cluster.settle)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keys_come_sealed_from_the_hub_alone(
    hub: Hub, company: Company, credential: RuntimeFile, there: Cluster, tmp_path: Path
) -> None:
    way = httpx2.ASGITransport(internal_app(hub.parts))
    running = RuntimeProcess(at(tmp_path, credential), there, way)
    await running.take_keys()
    kept = (tmp_path / "runtime" / "public" / "release-keys.json").read_text(encoding="utf-8")
    assert json.loads(kept) == json.loads(company.home.release_keys.read_text(encoding="utf-8"))
    theirs = json.dumps(public_jwks(new_private_key()))
    liar = httpx2.MockTransport(lambda _: httpx2.Response(200, text=theirs))
    lied_to = RuntimeProcess(at(tmp_path, credential), there, liar)
    with pytest.raises(NotTheHub):
        await lied_to.take_keys()
    assert (tmp_path / "runtime" / "public" / "release-keys.json").read_text(encoding="utf-8") == kept
    for each in (running, lied_to):
        await each.close()


async def test_a_runtime_takes_the_platforms_wheels_and_nobody_else_does(
    hub: Hub, company: Company, credential: RuntimeFile
) -> None:
    kept = Shelf(company.home).keep_current()
    headers = {"authorization": f"Bearer {credential.credential}"}
    answer = await hub.internal.get(PLATFORM_WHEEL.format(digest=kept.digest), headers=headers)
    assert answer.content == kept.path.read_bytes()
    assert (await hub.internal.get(PLATFORM_WHEEL.format(digest="0" * 64), headers=headers)).status_code == 404
    for path in (PLATFORM_WHEEL.format(digest=kept.digest), RELEASE_KEYS):
        stranger = {"authorization": "Bearer x", "pegboard-nonce": "n" * 20}
        assert (await hub.internal.get(path, headers=stranger)).status_code == 401


async def test_pods_are_asked_for_no_more_than_they_may_say() -> None:
    answers = {
        "10.0.0.1/readyz": {"status": "ok", "smoke": {"list": "ok"}},
        "10.0.0.1/healthz/calls": {"calls": 3},
        "10.0.0.2/readyz": {"status": "ok", "smoke": {"x": "y" * 100_000}},
        "10.0.0.3/readyz": ["no"],
    }

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.port == 8081
        said = answers.get(f"{request.url.host}{request.url.path}")
        return httpx2.Response(404) if said is None else httpx2.Response(200, json=said)

    asker = PodAsker(httpx2.MockTransport(answer))
    there = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3"), ("d", "evil.example"), ("e", "10.0.0.9")]
    assert await ask_all(asker, there) == {"a": Said(3, {"list": "ok"})}
    await asker.close()


def test_a_runtime_is_added_listed_and_removed_at_the_machine(tmp_path: Path) -> None:
    cli, out, home = CliRunner(), tmp_path / "runtime.json", tmp_path / "home"
    made = cli.invoke(runtime, ["add", "kube", "--namespace", "prod", "--out", str(out), "--home", str(home)])
    assert made.exit_code == 0, made.output
    assert out.stat().st_mode & 0o777 == 0o600
    kept = read_runtime_file(out)
    assert kept.credential not in made.output
    known = known_runtimes(home / "runtimes")["kube"]
    assert known.digest == digest_of(kept.credential)
    assert kept.credential not in (home / "runtimes" / "kube.json").read_text(encoding="utf-8")
    assert "kube  prod" in cli.invoke(runtime, ["list", "--home", str(home)]).output
    assert cli.invoke(runtime, ["remove", "kube", "--home", str(home)]).exit_code == 0
    assert known_runtimes(home / "runtimes") == {}


@pytest.mark.parametrize(
    "arguments",
    [["machine", "--namespace", "prod"], ["Kube", "--namespace", "prod"], ["kube", "--namespace", "../x"], ["kube"]],
)
def test_a_runtime_that_cannot_be_one_is_not_added(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "runtime.json"
    made = CliRunner().invoke(runtime, ["add", *arguments, "--out", str(out), "--home", str(tmp_path / "home")])
    assert made.exit_code == 2
    assert not out.exists()


async def bearer(hub: Hub) -> dict[str, str]:
    return {"authorization": f"Bearer {await hub.token('sam')}"}


async def notes(hub: Hub) -> list[str]:
    answer = await hub.public.get("/api/v1/servers/dev/wiki/deployment", headers=await bearer(hub))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["live"]["notes"])


async def logs(hub: Hub, **asked: str) -> list[dict[str, Any]]:
    answer = await hub.public.get("/api/v1/servers/dev/wiki/logs", params=asked, headers=await bearer(hub))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["lines"])


async def test_a_submitted_release_goes_live_as_a_pod_and_edges_are_told_who_it_must_be(
    hub: Hub, company: Company, cluster: FakeCluster, there: Cluster, tmp_path: Path
) -> None:
    credential = known_to(company, "dev")
    submission = await released(hub, "sam", "dev/wiki", Project())
    way = httpx2.ASGITransport(internal_app(hub.parts))
    started_with = replace(at(tmp_path, credential), logs_socket=company.home.runtime_door("kubernetes"))
    running = RuntimeProcess(started_with, there, way)
    tasks = [asyncio.create_task(each) for each in (running.run(), hub.parts.deployments.keep())]
    try:
        opened_at_first = False
        async with asyncio.timeout(30):
            while "live" not in await states(hub, submission):
                opened_at_first = opened_at_first or company.home.bundle(ServerName("dev", "wiki")).exists()
                if opened_at_first:
                    cluster.settle()
                await asyncio.sleep(0.05)
        (endpoint,) = hub.parts.registry.current.servers["dev/wiki"].endpoints
        address = parse(endpoint.address)
        account = server_name(ServerName("dev", "wiki"))
        assert address.spiffe_id == f"spiffe://acme.com/ns/pegboard-servers/sa/{account}"
        assert (address.host, address.port) == (cluster.get("Pod", cluster.pods()[0])["status"]["podIP"], 8443)
        # A cluster takes no pod as ready that has no bundle: there was one before the release took any call.
        assert opened_at_first
        # Its owner reads what its pod wrote, through the hub; and is told when the runtime is away.
        cluster.logs[cluster.pods()[0]] = [
            '2026-11-26T10:00:01Z {"level": "info", "message": "found 3 pages", "request_id": "r-1"}',
            '2026-11-26T10:00:02Z {"level": "info", "message": "found none", "request_id": "r-2"}',
            "2026-11-26T10:00:03Z not of the kit",
        ]
        assert [line["text"] for line in await logs(hub, release="")] == [
            "found 3 pages",
            "found none",
            "not of the kit",
        ]
        (line,) = await logs(hub, request_id="r-1")
        assert (line["text"], line["replica"]) == ("found 3 pages", cluster.pods()[0])
        assert await logs(hub, release="0" * 12) == []
        assert [line["text"] for line in await logs(hub, release=line["release"][:8], q="NONE")] == ["found none"]
        # Somebody changes an object behind its back: it is mended, and its owner reads who it was.
        (deployed,) = cluster.names("Deployment")
        image = ("spec", "template", "spec", "containers", ("key", "server"), "image")
        before = cluster.objects["Deployment", deployed].fields[image]
        cluster.edit("Deployment", deployed, image, "registry.acme.com/evil@sha256:" + "e" * 64)
        async with asyncio.timeout(30):
            while not (noted := await notes(hub)):
                await asyncio.sleep(0.05)
        assert "changed by kubectl-edit; it was mended" in noted[0]
        assert cluster.objects["Deployment", deployed].fields[image] == before
        # What runs there is nobody else's to run, or to speak of.
        operator = {"authorization": f"Bearer {OPERATOR}"}
        told = Desired.model_validate_json((await hub.internal.get(DESIRED, headers=operator)).content)
        assert told.servers == ()
        lie = Observed(runtime="machine", version=told.version, releases=())
        assert (await hub.internal.post(OBSERVED, content=lie.model_dump_json(), headers=operator)).status_code == 204
        own = {"authorization": f"Bearer {credential.credential}"}
        answer = await hub.internal.post(OBSERVED, content=lie.model_dump_json(), headers=own)
        assert answer.status_code == 422
        assert "kubernetes" in answer.json()["error"]["message"]
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    away = await hub.public.get("/api/v1/servers/dev/wiki/logs", headers=await bearer(hub))
    assert away.status_code == 503
    assert "the runtime kubernetes does not answer" in away.json()["error"]["message"]
