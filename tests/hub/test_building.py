"""A submitted source becomes an artifact: reproducibly, in the sandbox, told as it goes, and never by halves."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pegboard.core.archive import File, pack, unpack
from pegboard.core.publishing import sha256
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import (
    ARTIFACTS,
    CLAIM,
    DESIRED,
    OBSERVED,
    PROGRESS,
    RESULT,
    BuildOrder,
    BuildResult,
    Desired,
    DesiredServer,
    Observed,
    Scale,
)
from pegboard_hub.runtime import workshop
from pegboard_hub.runtime.building.builder import Builder, Made
from pegboard_hub.runtime.building.orders import Building
from pegboard_hub.runtime.conversation import Conversation
from pegboard_hub.runtime.hub_door import HubDoor
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from tests.hub.machine_rig import Releases, machine, until
from tests.system.runtime_kit import short_folder

pytestmark = pytest.mark.anyio

ONE = "prod/one"


class Hub:
    """What the hub does at its internal door, without a database."""

    def __init__(self) -> None:
        self.orders: list[BuildOrder] = []
        self.kept: dict[str, bytes] = {}
        self.kinds: dict[str, str] = {}
        self.progress: list[tuple[str, str]] = []
        self.results: list[BuildResult] = []
        self.observed: list[Observed] = []
        self.desired: Desired | None = None
        self.away = False
        self.taken_away = False
        routes = [
            Route(CLAIM, self._claim, methods=["POST"]),
            Route(PROGRESS, self._progress, methods=["POST"]),
            Route(RESULT, self._result, methods=["POST"]),
            Route(ARTIFACTS, self._artifact, methods=["GET", "PUT"]),
            Route(DESIRED, self._desired, methods=["GET"]),
            Route(OBSERVED, self._observed, methods=["POST"]),
        ]
        self._application = Starlette(routes=routes)

    def door(self) -> HubDoor:
        """A runtime's way to it."""
        transport = httpx2.ASGITransport(app=self._answer)
        return HubDoor(httpx2.AsyncClient(transport=transport, base_url="http://hub"), lambda: "operator")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if self.away:
            raise httpx2.ConnectError("away")
        await self._application(scope, receive, send)

    def order(self, archive: bytes, server: str = ONE, number: str = "b1") -> BuildOrder:
        """A new order."""
        self.kept[sha256(archive)] = archive
        self.orders.append(BuildOrder(id=number, server=server, source=sha256(archive), attempt=1))
        return self.orders[-1]

    async def _claim(self, _: Request) -> Response:
        if self.orders:
            return Response(self.orders.pop(0).model_dump_json(), media_type="application/json")
        await asyncio.sleep(0.05)
        return Response(status_code=204)

    async def _progress(self, request: Request) -> Response:
        if self.taken_away:
            return JSONResponse({"detail": "somebody else builds it"}, 409)
        said = await request.json()
        self.progress.append((said["step"], said["what"]))
        return Response(status_code=204)

    async def _result(self, request: Request) -> Response:
        self.results.append(BuildResult.model_validate((await request.json())["result"]))
        return Response(status_code=204)

    async def _artifact(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if request.method == "GET":
            return Response(self.kept[digest]) if digest in self.kept else Response(status_code=404)
        content = await request.body()
        assert sha256(content) == digest
        self.kept[digest], self.kinds[digest] = content, request.query_params["kind"]
        return Response(status_code=204)

    async def _desired(self, request: Request) -> Response:
        desired = self.desired
        if desired is None or desired.version == request.query_params["version"]:
            await asyncio.sleep(0.05)
            return Response(status_code=204)
        return Response(desired.model_dump_json(), media_type="application/json")

    async def _observed(self, request: Request) -> Response:
        self.observed.append(Observed.model_validate(await request.json()))
        return Response(status_code=204)


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
def home() -> Iterator[Home]:
    folder = short_folder()
    yield Home.open(folder / "home")
    shutil.rmtree(folder)


async def built(releases: Releases, home: Home, archive: bytes) -> BuildResult:
    """What is told of an order that is worked on at `home`."""
    hub = Hub()
    await Building(home, hub.door(), releases.builder(home), "tester").build(hub.order(archive))
    assert list((home.root / "builds").iterdir()) == []
    return hub.results[0]


def changed(archive: bytes, path: str, before: str, now: str) -> bytes:
    """An archive with other text in one file."""
    files = unpack(archive)
    text = files[path].content.decode()
    assert before in text
    return pack({**files, path: File(text.replace(before, now).encode())})


async def test_from_a_source_to_two_replicas_by_nothing_but_words_at_the_hubs_door(releases: Releases) -> None:
    hub, archive = Hub(), releases.archive(ONE)
    async with machine(releases) as rig:
        builder = releases.builder(rig.home)
        building = asyncio.create_task(Building(rig.home, hub.door(), builder, "tester").run())
        talking = asyncio.create_task(Conversation(hub.door(), rig.runtime, 0.05).run())
        order = hub.order(archive)
        await until(lambda: hub.results)
        result = hub.results[0]
        assert result.trouble is None
        assert result.artifact is not None
        assert result.declaration is not None
        assert result.artifact.source == order.source == sha256(archive)
        assert result.declaration.artifact == result.artifact.digest
        assert {hub.kinds[each.sha256] for each in result.artifact.files} == {"wheel"}
        assert hub.kinds[result.artifact.project] == "project"
        assert set(unpack(hub.kept[result.artifact.project])) == {"pegboard.toml"}
        sbom = json.loads(hub.kept[str(result.sbom)])
        assert sbom["bomFormat"] == "CycloneDX"
        steps = [step for step, _ in hub.progress]
        assert steps[:3] == ["fetching the source", "unpacking", "reading its lock file"]
        assert steps[-2:] == ["reading its tools", "keeping"]
        made = Made(result.artifact, result.declaration, (), hub.kept[str(result.sbom)], (), sandboxed=True)
        releases.bytes |= hub.kept
        wanted = releases.signed(ONE, made, scale=Scale(min=2, max=2))
        hub.desired = Desired(version="1", servers=(DesiredServer(server=ONE, releases=(wanted,)),))
        await until(lambda: hub.observed and _ready(hub.observed[-1]) == 2)
        assert hub.observed[-1].version == "1"
        addresses = [each.address for each in hub.observed[-1].releases[0].replicas]
        assert [await rig.ask(address, "6 * 7") for address in addresses] == [42, 42]
        for task in (building, talking):
            task.cancel()
        await asyncio.gather(building, talking, return_exceptions=True)


def _ready(seen: Observed) -> int:
    return sum(each.state == "ready" for release in seen.releases for each in release.replicas)


async def test_the_same_source_gives_the_same_artifact_wherever_it_is_built(releases: Releases, home: Home) -> None:
    archive = releases.archive(ONE, before="# somewhere")
    here = await built(releases, home, archive)
    other = short_folder()
    try:
        there = await built(releases, Home.open(other / "another" / "home"), archive)
    finally:
        shutil.rmtree(other)
    assert here.artifact is not None
    assert here == there
    assert here.artifact.digest == there.artifact.digest  # type: ignore[union-attr]


async def test_other_code_that_declares_the_same_is_another_release(releases: Releases, home: Home) -> None:
    one = await built(releases, home, releases.archive(ONE, before="# one"))
    two = await built(releases, home, releases.archive(ONE, before="# two"))
    assert one.declaration is not None
    assert two.declaration is not None
    assert one.declaration.pinned == two.declaration.pinned
    assert one.declaration.digest != two.declaration.digest


@pytest.mark.parametrize(
    ("path", "before", "now", "told"),
    [
        ("pegboard.toml", 'name = "one"', 'name = "two"', "submitted as prod/one"),
        ("pyproject.toml", '"uv_build"\n', '"setuptools.build_meta"\n', "set it to 'uv_build'"),
        ("uv.lock", 'editable = "."', 'directory = "../../../etc"', "names local packages outside the project"),
        ("uv.lock", "[[package]]", "[[", "not valid TOML"),
        ("src/pegboard/describe.py", "print(", "import time; time.sleep(600); print(", "took longer than"),
        ("src/pegboard/describe.py", "import json", "import nowhere, json", "No module named 'nowhere'"),
        ("src/pegboard/describe.py", "print(", "print('x' * 10) or print(", "is no declaration"),
    ],
)
async def test_what_cannot_be_built_is_told_to_its_author_with_a_mend(
    releases: Releases, home: Home, monkeypatch: pytest.MonkeyPatch, path: str, before: str, now: str, told: str
) -> None:
    monkeypatch.setattr(workshop, "DESCRIBE_TIMEOUT_S", 2)
    result = await built(releases, home, changed(releases.archive(ONE), path, before, now))
    assert result.artifact is None
    assert result.trouble is not None
    assert told in result.trouble.what
    assert str(home.root) not in result.trouble.what
    assert result.trouble.mend
    assert not result.again


async def test_what_is_no_archive_is_told(releases: Releases, home: Home) -> None:
    result = await built(releases, home, b"no archive")
    assert result.trouble is not None
    assert "not packed with gzip" in result.trouble.what


_AWAY = """
[[package]]
name = "away"
version = "1.0"
source = { registry = "http://127.0.0.1:25999/simple" }
wheels = [
    { url = "http://127.0.0.1:25999/away-1.0-py3-none-any.whl", hash = "sha256:%s", size = 1 },
]

[[package]]
name = "pegboard"
version = "0"
source = { editable = "." }
dependencies = [{ name = "away" }]
"""


def needs_away(releases: Releases) -> bytes:
    """A source that needs a package of an index."""
    archive = releases.archive(ONE, before="# needs another")
    files = unpack(archive)
    lock = files["uv.lock"].content.decode().partition("[[package]]")[0] + _AWAY % ("ab" * 32)
    project = files["pyproject.toml"].content.decode().replace('">=3.11"\n', '">=3.11"\ndependencies = ["away"]\n')
    return pack({**files, "uv.lock": File(lock.encode()), "pyproject.toml": File(project.encode())})


async def test_an_index_that_is_away_is_tried_again(releases: Releases, home: Home) -> None:
    result = await built(releases, home, needs_away(releases))
    assert result.trouble is not None
    assert "away-1.0-py3-none-any.whl cannot be fetched" in result.trouble.what
    assert result.again


async def test_a_package_that_is_not_what_was_locked_is_never_installed(
    releases: Releases, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(_url: str, _name: str, into: Path) -> str:
        await asyncio.to_thread(into.write_bytes, b"poison")
        return sha256(b"poison")

    monkeypatch.setattr("pegboard_hub.runtime.machine.artifacts.fetch", other)
    result = await built(releases, home, needs_away(releases))
    assert result.trouble is not None
    assert "is not what was locked" in result.trouble.what
    assert not result.again
    assert [each for each in (home.root / "artifacts").iterdir() if "abab" in each.name] == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ('registry = "http://127.0.0.1:25999/simple"', 'registry = "http://169.254.169.254/simple"'),
        ('url = "http://127.0.0.1:25999/away', 'url = "http://169.254.169.254/away'),
        ('url = "http://127.0.0.1:25999/away', 'url = "http://127.0.0.1:25999@169.254.169.254/away'),
        ('url = "http://127.0.0.1:25999/away', 'url = "file:///etc/passwd'),
        ('registry = "http://127.0.0.1:25999/simple"', 'git = "https://git.example.com/x?rev=1#abc"'),
        ('registry = "http://127.0.0.1:25999/simple"', 'url = "http://127.0.0.1:25999/away-1.0.tar.gz"'),
        ('registry = "http://127.0.0.1:25999/simple"', 'path = "/etc/passwd"'),
    ],
)
async def test_nothing_is_fetched_of_where_an_author_says_but_of_the_operators_indexes(
    releases: Releases, home: Home, monkeypatch: pytest.MonkeyPatch, before: str, now: str
) -> None:
    async def asked(url: str, _name: str, _into: Path) -> str:
        pytest.fail(f"{url} was asked")

    monkeypatch.setattr("pegboard_hub.runtime.machine.artifacts.fetch", asked)
    result = await built(releases, home, changed(needs_away(releases), "uv.lock", before, now))
    assert result.trouble is not None
    assert "of no index which may be used: 'away'" in result.trouble.what
    assert not result.again


async def test_a_kit_that_the_platform_does_not_have_is_named_with_the_mend(releases: Releases, home: Home) -> None:
    lock = '\n[[package]]\nname = "pegboard"\nversion = "9.9"\nsource = { registry = "http://hub/packages/simple" }\n'
    files = unpack(releases.archive(ONE, before="# with a kit"))
    project = files["pyproject.toml"].content.decode().replace('name = "pegboard"', 'name = "one"')
    text = files["uv.lock"].content.decode().replace('name = "pegboard"', 'name = "one"')
    text = text.replace('"." }\n', '"." }\ndependencies = [{ name = "pegboard" }]\n') + lock
    archive = pack({**files, "pyproject.toml": File(project.encode()), "uv.lock": File(text.encode())})
    result = await built(releases, home, archive)
    assert result.trouble is not None
    assert "pegboard 9.9, is not one that this Pegboard has" in result.trouble.what


async def test_a_full_disk_is_said_and_tried_again(
    releases: Releases, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArtifactStore, "keep", full)
    result = await built(releases, home, releases.archive(ONE, before="# onto a full disk"))
    assert result.trouble is not None
    assert "No space left" in result.trouble.what
    assert "make room" in result.trouble.mend
    assert result.again


async def test_a_build_that_is_somebody_elses_by_now_stops_and_tells_nothing(releases: Releases, home: Home) -> None:
    hub = Hub()
    hub.taken_away = True
    order = hub.order(releases.archive(ONE))
    await Building(home, hub.door(), releases.builder(home), "tester").build(order)
    assert hub.results == []
    assert list((home.root / "builds").iterdir()) == []


async def test_a_hub_that_was_away_gets_the_result_when_it_is_back(
    releases: Releases, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.runtime.building.orders.AGAIN_S", 0.05)
    hub, archive = Hub(), releases.archive(ONE, before="# told late")
    builder = releases.builder(home)
    build = Builder.build

    async def leaving(*given: Any) -> Made:
        made = await build(*given)
        asyncio.get_running_loop().call_later(0.3, lambda: setattr(hub, "away", False))
        hub.away = True
        return made

    monkeypatch.setattr(Builder, "build", leaving)
    await Building(home, hub.door(), builder, "tester").build(hub.order(archive))
    assert hub.results
