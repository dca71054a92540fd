"""A foreign server, submitted: its packages are made once, as locked, and laid from the artifact alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.core.archive import File, is_kept, pack
from pegboard_hub.common.home import Home
from pegboard_hub.packages.shelf import Shelf, platform_wheels
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.building.builder import Builder, Made
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.installing import install
from pegboard_hub.runtime.workshop import Workshop
from tests.system.runtime_kit import short_folder

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "foreign"


@pytest.fixture
def home() -> Iterator[Home]:
    folder = short_folder()
    yield Home.open(folder / "home")
    shutil.rmtree(folder)


def source(example: str, **other: bytes) -> bytes:
    """The example as its author would submit it."""
    files = {
        name: File(path.read_bytes())
        for path in (EXAMPLES / example).rglob("*")
        if path.is_file() and is_kept(name := path.relative_to(EXAMPLES / example).as_posix())
    }
    return pack({**files, **{name: File(text) for name, text in other.items()}})


class Bench:
    """A builder with the platform's own kit, and what it made."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.shelf = Shelf(home)
        self.shelf.keep_current()
        self.isolation = GrowingIsolation(choose("auto", home, [], preflight.find_envoy()))
        self.own: dict[str, bytes] = {}
        self.store = ArtifactStore(home, self._own, lambda: platform_wheels(home))
        indexes = ["https://pypi.org/simple"]
        self.builder = Builder(
            home, self.isolation, preflight.find_uv(), self.store, self.shelf.of_version, lambda: indexes
        )

    async def _own(self, digest: str) -> bytes:
        return self.own[digest]

    async def make(self, example: str, number: str = "b1", **other: bytes) -> Made:
        async def tell(_step: str, _what: str) -> None:
            return None

        return await self.builder.build(number, f"dev/{example}", source(example, **other), tell)

    async def laid(self, made: Made) -> Path:
        """The project's folder of the release, installed from the artifact."""
        isolation = self.isolation.including("a test")
        shop = Workshop(
            "a test", self.home.root / "laid", self.home.root / "work-laid", isolation, preflight.find_uv()
        )
        await install(shop, made.artifact, self.store)
        return shop.project


async def test_what_npm_installs_is_a_file_of_the_artifact_and_equal_each_time(home: Home) -> None:
    bench = Bench(home)
    made, again = await bench.make("files"), await bench.make("files", "b2")
    assert made.artifact.digest == again.artifact.digest
    file = next(each for each in made.artifact.files if each.name == "backend/node_modules.tar.gz")
    assert file.origin == "own"
    assert [tool.name for tool in made.declaration.tools if tool.name.startswith("write")] == []
    project = await bench.laid(made)
    link = project / "backend" / "node_modules" / ".bin" / "mcp-server-filesystem"
    assert link.is_symlink()
    assert link.resolve().is_relative_to(project)
    assert (project / "backend" / "handbook" / "welcome.md").is_file()


async def test_a_backends_own_environment_is_laid_from_the_wheels_of_its_own_lock_file(home: Home) -> None:
    bench = Bench(home)
    made = await bench.make("shop")
    mine = [each for each in made.artifact.files if each.name.startswith("backend/")]
    assert "fastmcp-4.1.2" in " ".join(each.name for each in mine)
    assert {each.origin for each in mine} == {"index"}
    project = await bench.laid(made)
    assert list((project / "backend" / ".venv").glob("lib/python3*/site-packages/fastmcp"))
    environment = project.parent / "env"
    assert not list(environment.glob("lib/python3*/site-packages/fastmcp"))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("backend/package-lock.json", b"{}", "no lock file of npm"),
        (
            "backend/package-lock.json",
            b'{"packages": {"node_modules/x": {"resolved": "git+ssh://git@host/x.git"}}}',
            "use a package of the registry",
        ),
        ("backend/package-lock.json", b'{"packages": {"node_modules/x": {"version": "1.2.3"}}}', "has no integrity"),
        ("backend/package-lock.json", b'{"packages": {"../x": {"link": true}}}', "is a link to a folder"),
        ("tools.pins.json", b"{}", "pegboard snapshot"),
    ],
)
async def test_what_is_not_locked_by_digest_is_not_installed(home: Home, file: str, text: bytes, words: str) -> None:
    with pytest.raises(ReleaseFailed, match=words):
        await Bench(home).make("files", **{file: text})
