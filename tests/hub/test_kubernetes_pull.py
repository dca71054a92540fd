"""A pod's first container: a release that was really built comes by digest, is verified, and is installed offline."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.errors import PegboardError
from pegboard.core.jose import public_jwks
from pegboard.core.names import ServerName
from pegboard.core.publishing import Artifact
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import DesiredRelease
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.kubernetes import pull as pulling
from pegboard_hub.runtime.kubernetes.manifests import release_objects
from pegboard_hub.runtime.kubernetes.pull import PodStore, pull
from pegboard_hub.runtime.kubernetes.releases import FILES, HubStore, ReleaseDoor
from pegboard_hub.runtime.verified import NotStarted
from tests.hub.kube_rig import CREDENTIAL, settings
from tests.hub.machine_rig import Releases
from tests.hub.runtime_suite import ONE

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


class Pod:
    """What a pod's first container has: its documents, the way to the runtime, a folder."""

    def __init__(self, folder: Path, releases: Releases, wanted: DesiredRelease) -> None:
        self.folder, self.wanted, self.releases = folder, wanted, releases
        self.order, self.into = folder / "order", folder / "release"
        for each in (self.order, self.into, folder / "home"):
            each.mkdir()
        home = Home.open(folder / "home")
        (home.root / "artifacts").mkdir(exist_ok=True)
        self.home = home
        self.door = ReleaseDoor(HubStore(home, releases.own, releases.own), folder / "x.sock")
        self.door.offer([wanted.artifact])
        self.store = PodStore(folder / "fetched", httpx2.ASGITransport(self.door.application))
        self.write(wanted)

    def write(self, wanted: DesiredRelease) -> None:
        """The documents as the runtime's ConfigMap has them."""
        keys = json.dumps(public_jwks(self.releases.key))
        name = wanted.artifact.server
        objects = release_objects(named(name), wanted, settings(), CREDENTIAL, keys)
        for file, text in next(each for each in objects if each["kind"] == "ConfigMap")["data"].items():
            (self.order / file).write_text(text, encoding="utf-8")

    async def pull(self, **changes: Any) -> None:
        said = {"artifact": self.wanted.artifact.digest, "release": self.wanted.release} | changes
        await pull(self.order, said["artifact"], said["release"], self.store, self.into, preflight.find_uv())


def named(server: str) -> ServerName:
    return ServerName.parse(server)


@pytest.fixture
async def pod(releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    monkeypatch.setattr(pulling, "AGAIN_S", 0)
    made = await releases.made(ONE, ARCHIVES.setdefault(ONE, releases.archive(ONE)))
    found = Pod(tmp_path, releases, releases.signed(ONE, made))
    yield found
    await found.store.close()


ARCHIVES: dict[str, bytes] = {}


async def test_a_release_comes_by_digest_and_is_installed_without_a_network(pod: Pod) -> None:
    await pod.pull()
    python = pod.into / "env" / "bin" / "python"
    command = [str(python), "-I", "-c", "import sys; print(sys.prefix)"]
    told = (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)).stdout
    assert told.strip() == str(pod.into / "env")
    assert (pod.into / "project" / "pegboard.toml").exists()
    assert not (pod.into / "wheels").exists()


async def test_a_try_that_was_cut_leaves_nothing_to_the_next(pod: Pod) -> None:
    (pod.into / "env").mkdir()
    (pod.into / "env" / "left").touch()
    (pod.into / "wheels").mkdir()
    await pod.pull()
    assert not (pod.into / "env" / "left").exists()


async def test_a_file_that_is_not_what_its_digest_says_is_not_installed(pod: Pod) -> None:
    digest = pod.wanted.artifact.project
    (pod.home.artifact_file(digest)).write_bytes(b"something else")
    with pytest.raises(PegboardError, match="digest differs"):
        await pod.pull()
    assert not (pod.into / "project").exists()


@pytest.mark.parametrize("field", ["artifact", "release"])
async def test_documents_that_are_not_those_of_the_pods_specification_are_not_installed(pod: Pod, field: str) -> None:
    with pytest.raises(PegboardError, match="not those that this pod is for"):
        await pod.pull(**{field: "0" * 64})
    assert list(pod.into.iterdir()) == []


async def test_an_artifact_that_somebody_put_in_its_place_is_not_installed(pod: Pod) -> None:
    theirs = pod.wanted.artifact.model_copy(update={"kit": "9.9.9"})
    pod.write(pod.wanted.model_copy(update={"artifact": theirs}))
    with pytest.raises(NotStarted, match="what was signed"):
        await pod.pull(artifact=theirs.digest)


async def test_a_signature_of_another_ring_is_none(pod: Pod) -> None:
    others = Releases()
    try:
        (pod.order / "release-keys.json").write_text(json.dumps(public_jwks(others.key)), encoding="utf-8")
        with pytest.raises(NotStarted, match="does not verify"):
            await pod.pull()
    finally:
        others.close()


async def test_only_files_of_what_should_run_are_given(pod: Pod) -> None:
    way = httpx2.ASGITransport(pod.door.application)
    async with httpx2.AsyncClient(transport=way, base_url="http://releases") as client:
        digest = pod.wanted.artifact.project
        assert (await client.get(FILES.format(digest=digest))).status_code == 200
        for other in ("0" * 64, "../release-keys.json", "..%2f..%2fetc%2fpasswd", digest.upper(), digest[:-1]):
            assert (await client.get(FILES.format(digest=other))).status_code == 404, other
        pod.door.offer([])
        assert (await client.get(FILES.format(digest=digest))).status_code == 404


async def test_a_runtime_that_has_not_the_file_yet_is_asked_again_and_says_why(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod.releases, "bytes", {})
    with pytest.raises(PegboardError, match=r"cannot be fetched: .*404"):
        await pod.pull()


def test_the_command_says_why_on_its_last_line_and_ends_with_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("into", "fetched"):
        (tmp_path / folder).mkdir()
    options = {"order": tmp_path, "artifact": "0" * 64, "release": "0" * 64, "releases": tmp_path / "no.sock"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    assert pulling.main([*arguments, *(f"--{each}={tmp_path / each}" for each in ("into", "fetched"))]) == 1
    assert list((tmp_path / "fetched").iterdir()) == []
    assert "documents cannot be read" in capsys.readouterr().err.splitlines()[-1]


def test_an_authors_image_brings_its_own_environment_and_nothing_is_fetched_but_the_project() -> None:
    own = Artifact(
        server=ONE,
        source="0" * 64,
        lock="0" * 64,
        project="1" * 64,
        python="3.11",
        kit="1",
        image="r.example/x@sha256:",
    )
    door = ReleaseDoor(None, Path("x"))  # type: ignore[arg-type]
    door.offer([own])
    assert set(door._files) == {"1" * 64}
