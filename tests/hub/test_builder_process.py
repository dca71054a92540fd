"""A builder as a process of its own: it keeps what the machine's own promises, and is let do nothing else."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from typer.testing import CliRunner

from pegboard.core.check.facts import to_json
from pegboard.core.errors import ConfigurationError
from pegboard.core.publishing import State
from pegboard_hub.common.asking import NotTheHub
from pegboard_hub.common.home import Home
from pegboard_hub.common.joining import NONCE_HEADER
from pegboard_hub.common.runtimes import RuntimeFile, digest_of, known_runtimes, new_runtime
from pegboard_hub.packages.advisories import SETTING as ADVISORIES
from pegboard_hub.packages.facts import look_up
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.publishing.orders import (
    ARTIFACTS,
    BUILDING,
    CLAIM,
    DESIRED,
    OBSERVED,
    BuildResult,
    Grounds,
)
from pegboard_hub.runtime.building.knowing import Locks, known_of
from pegboard_hub.runtime.building.process import BuilderProcess, BuilderSettings
from pegboard_hub.runtime.commands import up
from pegboard_hub.runtime.confined import OutsideFailed
from pegboard_hub.upkeep.runtimes import runtime
from pegboard_hub.web.app import internal_app
from pegboard_hub.web.internal.edges import proved
from tests.hub import test_building
from tests.hub.company import Company, Hub
from tests.hub.machine_rig import INDEX, Releases
from tests.hub.publishing_rig import LOCK, Builder, Project, build, found, submit, work
from tests.hub.test_building import (  # noqa: F401 - the same promises
    home,
    releases,
    test_a_full_disk_is_said_and_tried_again,
    test_a_kit_that_the_platform_does_not_have_is_named_with_the_mend,
    test_a_package_that_is_not_what_was_locked_is_never_installed,
    test_an_index_that_is_away_is_tried_again,
    test_nothing_is_fetched_of_where_an_author_says_but_of_the_operators_indexes,
    test_the_same_source_gives_the_same_artifact_wherever_it_is_built,
    test_what_is_no_archive_is_told,
)

pytestmark = pytest.mark.anyio

MADE = new_runtime("builder")


class Door(test_building.Hub):
    """The hub's internal door, which says what to build by."""

    def way(self) -> httpx2.AsyncBaseTransport:
        routes = [Route(BUILDING, self._building), Mount("/", self._application)]
        return httpx2.ASGITransport(Starlette(routes=routes))

    async def _building(self, request: Request) -> Response:
        said = Grounds(indexes=(INDEX,), kit=()).model_dump(mode="json")
        return proved(digest_of(MADE.credential), request.headers[NONCE_HEADER], 200, said)


async def until(wanted: Any, limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not wanted():
            await asyncio.sleep(0.02)


async def built(_: Releases, home: Home, archive: bytes) -> BuildResult:  # noqa: F811
    """What a process tells of an order, that works in the same home."""
    door = Door()
    door.order(archive)
    process = BuilderProcess(BuilderSettings(MADE, home.root / "no.sock", home.root), door.way())
    task = asyncio.create_task(process.run())
    try:
        await until(lambda: door.results)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [each for each in (home.root / "builds").iterdir() if each.is_dir()] == []
    assert list((home.root / "releases").iterdir()) == []
    return door.results[0]


@pytest.fixture(autouse=True)
def _by_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_building, "built", built)


def known_to(company: Company, **knows: Any) -> RuntimeFile:
    made = new_runtime("other")
    company.home.runtimes.mkdir(exist_ok=True)
    known = {"name": "other", "digest": digest_of(made.credential), **knows}
    (company.home.runtimes / "other.json").write_text(json.dumps(known), encoding="utf-8")
    return made


@pytest.fixture
def credential(company: Company) -> RuntimeFile:
    return known_to(company, builds=True)


def at(folder: Path, credential: RuntimeFile, hub: Hub) -> BuilderProcess:
    settings = BuilderSettings(credential, folder / "no.sock", folder / "builder")
    return BuilderProcess(settings, httpx2.ASGITransport(internal_app(hub.parts)))


async def test_a_hub_gives_its_orders_to_a_builder_elsewhere_and_what_it_has_of_the_kit(
    hub: Hub, company: Company, credential: RuntimeFile, tmp_path: Path
) -> None:
    kept = Shelf(company.home).keep_current()
    process = at(tmp_path, credential, hub)
    await process.take_grounds()
    there = Shelf(Home.at(tmp_path / "builder")).of_version(kept.version)
    assert there is not None
    assert there.path.read_bytes() == kept.path.read_bytes()
    submission = (await submit(hub, "sam", "dev/wiki", Project())).json()["id"]
    task = asyncio.create_task(process.run())
    try:
        async with asyncio.timeout(60):
            while (now := await found(hub, submission)).trouble is None:
                await asyncio.sleep(0.05)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    # The project of these tests locks a kit that nobody has, and its author is told so by this builder.
    assert "pegboard 0.9.0, is not one that this Pegboard has" in now.trouble.what
    assert (now.builder or "").startswith("other-")


PYPI = "https://pypi.org/simple"
EVIL = """
[[package]]
name = "evil"
version = "1"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://pypi.org/evil-1-py3-none-any.whl", hash = "sha256:%s", size = 1 }]
""" % ("2" * 64)


async def test_what_a_builders_advisories_know_as_malicious_is_not_released(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the operator's folder, where it is built, to the author who reads why; builds wait while it is empty."""
    monkeypatch.setenv(ADVISORIES, str(tmp_path))
    away = httpx2.MockTransport(lambda _: httpx2.Response(503))
    monkeypatch.setattr("pegboard_hub.runtime.building.knowing.look_up", partial(look_up, transport=away))
    project = Project(more={"uv.lock": LOCK + EVIL})
    locks = Locks((project.files["uv.lock"].content,))
    with pytest.raises(OutsideFailed, match="has no advisories"):
        await known_of(locks, [PYPI], tmp_path)
    evil = {"package": {"ecosystem": "PyPI", "name": "evil"}, "versions": ["1"]}
    advisory = {"id": "MAL-2026-7", "summary": "sends keys away", "affected": [evil]}
    (tmp_path / "MAL-2026-7.json").write_text(json.dumps(advisory))
    known = to_json(await known_of(locks, [PYPI], tmp_path))
    id_ = (await submit(hub, "sam", "dev/wiki", project)).json()["id"]
    builder = Builder(hub)
    order = await builder.claim()
    assert order is not None
    made = build(order, await builder.source(order), project)
    await builder.hand_in(made)
    await builder.tell(order, made.result.model_copy(update={"advisories": known}))
    await work(hub)
    now = await found(hub, id_)
    assert now.state == State.FAILED
    assert [each.code for each in now.findings if each.severity == "error"] == ["PB405"]


async def test_what_to_build_by_comes_sealed_from_the_hub_alone(credential: RuntimeFile, tmp_path: Path) -> None:
    lie = Grounds(indexes=("https://evil.example/simple",), kit=()).model_dump_json()
    liar = httpx2.MockTransport(lambda _: httpx2.Response(200, text=lie))
    process = BuilderProcess(BuilderSettings(credential, tmp_path / "no.sock", tmp_path / "builder"), liar)
    with pytest.raises(NotTheHub):
        await process.take_grounds()


def shown(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}", NONCE_HEADER: "n" * 20}


@pytest.mark.parametrize("who", ["a runtime of servers", "a stranger"])
async def test_only_a_builder_builds(hub: Hub, company: Company, who: str) -> None:
    token = "x" * 43 if who == "a stranger" else known_to(company, namespaces=["prod"]).credential
    claim = {"builder": "me", "wait_s": 0}
    content = b"poison"
    asked = [
        await hub.internal.post(CLAIM, json=claim, headers=shown(token)),
        await hub.internal.get(BUILDING, headers=shown(token)),
        await hub.internal.put(
            ARTIFACTS.format(digest="0" * 64), params={"kind": "wheel"}, content=content, headers=shown(token)
        ),
    ]
    assert [each.status_code for each in asked] == [401, 401, 401]
    assert "--builds" in asked[0].json()["error"]["what_to_do"]


async def test_a_builder_runs_nothing_and_operates_nothing(hub: Hub, credential: RuntimeFile) -> None:
    token = credential.credential
    assert (
        await hub.internal.post(CLAIM, json={"builder": "me", "wait_s": 0}, headers=shown(token))
    ).status_code == 204
    assert (await hub.internal.get(BUILDING, headers=shown(token))).status_code == 200
    lie = {"runtime": "other", "version": "1", "releases": []}
    assert (await hub.internal.post(OBSERVED, json=lie, headers=shown(token))).status_code == 401
    for path in (DESIRED, "/internal/v1/grants", "/internal/v1/edges", "/internal/v1/publishing/queue"):
        assert (await hub.internal.get(path, headers=shown(token))).status_code == 401


def test_a_credential_is_for_building_or_for_running_and_never_for_both(tmp_path: Path) -> None:
    cli, at_home = CliRunner(), ["--home", str(tmp_path / "home")]
    made = cli.invoke(runtime, ["add", "b", "--builds", "--out", str(tmp_path / "b.json"), *at_home])
    assert made.exit_code == 0, made.output
    assert known_runtimes(tmp_path / "home" / "runtimes")["b"].builds
    assert "b  builds" in cli.invoke(runtime, ["list", *at_home]).output
    for wrong in (["--builds", "--namespace", "prod"], []):
        refused = cli.invoke(runtime, ["add", "c", *wrong, "--out", str(tmp_path / "c.json"), *at_home])
        assert refused.exit_code == 2
    assert not (tmp_path / "c.json").exists()


async def test_a_sandbox_that_is_asked_for_and_does_not_work_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = BuilderSettings(MADE, tmp_path / "no.sock", tmp_path / "builder", isolation="bubblewrap")
    with pytest.raises(ConfigurationError, match="bubblewrap is not installed"):
        BuilderProcess(settings, httpx2.MockTransport(lambda _: httpx2.Response(500)))


async def test_without_a_sandbox_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = BuilderProcess(
        BuilderSettings(MADE, tmp_path / "no.sock", tmp_path / "builder", isolation="off"),
        httpx2.MockTransport(lambda _: httpx2.Response(500)),
    )
    task = asyncio.create_task(process.run())
    await until(lambda: "isolation of authors' code is off" in caplog.text)
    assert [each.levelname for each in caplog.records if "isolation" in each.message] == ["WARNING"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_where_submitted_servers_are_built_is_here_or_elsewhere(tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(up)
    answer = CliRunner().invoke(command, ["--submitted", "nowhere", "--home", str(tmp_path / "home")])
    assert answer.exit_code == 2
    assert not (tmp_path / "home").exists()
