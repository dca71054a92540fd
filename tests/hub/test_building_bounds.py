"""What builds may take: of time, memory, processes, disk and each other. It is named, and nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.core.archive import File, pack, unpack
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import BuildOrder
from pegboard_hub.runtime import confined
from pegboard_hub.runtime.building import orders
from pegboard_hub.runtime.building.orders import at_once, builders
from pegboard_hub.runtime.cgroups import find_groups
from pegboard_hub.runtime.confined import OutsideFailed, ReleaseFailed
from pegboard_hub.runtime.disk import usage
from pegboard_hub.runtime.workshop import _failure
from tests.hub.machine_rig import Releases, commands
from tests.hub.runtime_suite import ONE

pytestmark = pytest.mark.anyio

FORKS = "import os, time\nfor _ in range(2000):\n  if os.fork() == 0: time.sleep(60); os._exit(0)\n"
TAKES_MEMORY = (  # where no figure of a process shows it
    "import mmap\nshared = mmap.mmap(-1, 5 * 2**30)\nfor n in range(0, len(shared), 4096): shared[n] = 1\n"
)
FILLS = (
    "import os, time\nfor n in range(40): open(os.environ['HOME'] + f'/{n}', 'wb').write(os.urandom(2**20))\n"
    "time.sleep(20)"
)
MANY = "import os, time\nfor n in range(3000): open(os.environ['HOME'] + f'/{n}', 'w')\ntime.sleep(20)"
DEEP = (
    "import os, time\nos.chdir(os.environ['HOME'])\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\n"
    "time.sleep(20)"
)
WAITS = "import time; time.sleep(60)"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


async def told(releases: Releases, code: str) -> str:
    """What an author whose code does this when it is read is told of the build."""
    files = {**unpack(releases.archive(ONE)), "src/pegboard/describe.py": File(code.encode())}
    home = Home.open(releases.folder / "home")
    groups = find_groups(home.instance)
    builder = releases.builder(home)
    builder._groups = groups
    try:
        with pytest.raises(ReleaseFailed) as failed:
            await builder.build("bounded", ONE, pack(files), _say_nothing)
        left = [path for folder in groups.folders.values() for path in folder.glob("run~*")]
        assert left == []
    finally:
        groups.close()
    assert not list((home.root / "builds").glob("*"))
    assert not commands("describe", str(home.root / "builds"))
    return str(failed.value)


async def _say_nothing(_step: str, _what: str) -> None:
    return None


@pytest.mark.parametrize(
    "code",
    [
        FILLS,
        pytest.param(MANY, marks=pytest.mark.heavy),
        pytest.param(DEEP, marks=pytest.mark.heavy),
    ],
    ids=["bytes", "files", "depth"],
)
async def test_one_that_fills_the_disk_is_ended_and_told(
    releases: Releases, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "MOST_DISK", 20 * 2**20)
    monkeypatch.setattr(confined, "MOST_ENTRIES", 2000)
    monkeypatch.setattr(confined, "LOOK_S", 0.1)
    assert "fills the disk" in await told(releases, code)


@pytest.mark.heavy
@pytest.mark.parametrize("code", [FORKS, TAKES_MEMORY], ids=["processes", "memory"])
async def test_one_that_takes_more_than_a_machine_has_for_it_is_ended(releases: Releases, code: str) -> None:
    groups = find_groups("trial")
    groups.close()
    if not {"pids", "memory"} <= set(groups.folders) or os.geteuid() != 0:
        pytest.skip("no control groups can be made here")
    said = await told(releases, code)
    assert "BlockingIOError" in said or "needs far more than" in said


async def test_one_that_never_ends_is_ended_and_told(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard_hub.runtime.workshop.DESCRIBE_TIMEOUT_S", 0.5)
    assert "importing it must not wait" in await told(releases, WAITS)


class Claims:
    """A hub with nothing to build, and what builders say to it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[str, ...]]] = []

    async def claim(self, builder: str, wait_s: float = 0, *, gone: tuple[str, ...] = ()) -> BuildOrder | None:
        assert wait_s == 0
        self.heard.append((builder, gone))
        return None


async def test_builders_have_names_of_their_own_and_tell_once_which_are_gone(tmp_path: Path) -> None:
    home, hub = Home.open(tmp_path / "home"), Claims()
    builders(home, None, None, "killed", 2)  # type: ignore[arg-type]
    orders.clear_builds(home)  # as each start does
    first, second = builders(home, hub, None, "next", 2)  # type: ignore[arg-type]
    assert first._name != second._name
    for _ in range(2):
        assert await first._claimed() is None
    assert hub.heard == [("next-0", ("killed-0", "killed-1")), ("next-0", ())]


def test_how_many_at_once_follows_from_the_machine_and_the_operator_has_the_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(orders.SETTING, raising=False)
    assert 1 <= at_once() <= orders.DEFAULT_MOST
    monkeypatch.setenv(orders.SETTING, "7")
    assert at_once() == 7
    for wrong in ("0", "many", "33"):
        monkeypatch.setenv(orders.SETTING, wrong)
        with pytest.raises(ConfigurationError, match="number of builds from 1 to 32"):
            at_once()


def test_what_is_counted_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "big").write_bytes(b"x" * 2**20)
    (tmp_path / "own" / "link").symlink_to(tmp_path / "big")
    (tmp_path / "own" / "loop").symlink_to(tmp_path)
    assert usage(tmp_path / "own", 100).entries == 2
    assert usage(tmp_path / "own", 100).bytes < 2**20


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ("Failed to fetch: http://x/ | cause: error sending request for url | cause: tcp connect error", True),
        ("cause: dns error | cause: error resolving DNS", True),
        ("cause: HTTP status server error (503 Service Unavailable)", True),
        ("Because x was not found in the package registry, we can conclude that your requirements are bad", False),
    ],
)
def test_an_index_that_is_away_is_no_fault_of_a_project(said: str, *, again: bool) -> None:
    assert isinstance(_failure(said), OutsideFailed) is again
