"""A project that is built: what its lock file and its packages say, and what runs of it before anybody looked.

Promises (SECURITY.md): a server's code and an author's project reach and name nothing but themselves; what runs is
what was checked. Here: what was checked, listed and warned of under a name is what is installed under it; nothing of
a package lies outside its environment; and nothing that a build leaves behind outlives it, or keeps others from it.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.archive import File, pack, unpack
from pegboard.core.check.dependencies import is_of, locked_packages
from pegboard_hub.common.home import Home
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime import confined, preflight
from pegboard_hub.runtime.building.builder import Made
from pegboard_hub.runtime.building.locked import wheel_of
from pegboard_hub.runtime.building.orders import clear_builds
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.releases import install_wheels
from pegboard_hub.runtime.sdists import SdistBuilder
from pegboard_hub.runtime.source import SourceDistribution
from pegboard_hub.runtime.workshop import Workshop
from tests.hub.machine_rig import INDEX, Releases
from tests.system.runtime_kit import short_folder

pytestmark = pytest.mark.anyio

ONE = "prod/one"
WHERE = INDEX.rpartition("/")[0]
DEEP = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\n"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    found = short_folder()
    yield found
    remove_tree(found)


@pytest.fixture
def shop(folder: Path) -> Workshop:
    home = Home.open(folder / "home")
    isolation = GrowingIsolation(choose("auto", home, [], preflight.find_envoy()))
    shop = Workshop("build", folder / "made", folder / "work", isolation.including("build"), preflight.find_uv())
    shop.folder.mkdir()
    return shop


def package(*files: str, sdist: str = "") -> dict[str, Any]:
    """What a lock file has of `clean` 2.0."""
    said: dict[str, Any] = {"name": "clean", "version": "2.0", "source": {"registry": INDEX}}
    said["wheels"] = [{"url": f"{WHERE}/{name}", "hash": f"sha256:{'ab' * 32}", "size": 1} for name in files]
    if sdist:
        said["sdist"] = {"url": f"{WHERE}/{sdist}", "hash": f"sha256:{'ab' * 32}"}
    return said


# Two readings of one lock file: of equally good wheels uv takes the one with a build number, or what it knows better
# of the platform. What it says is then of another file than the one that is installed.
OTHERS = [
    package("poison-2.0-py3-none-any.whl", "clean-2.0-1-py3-none-any.whl"),
    package("poison-2.0-py3-none-any.whl"),
    package("clean-1.0-py3-none-any.whl"),
    package("clean_2.0-2.0-py3-none-any.whl"),
]


@pytest.mark.parametrize("locked", OTHERS, ids=lambda found: str(found["wheels"][0]["url"]).rpartition("/")[2])
def test_no_wheel_of_another_package_is_installed_under_a_clean_ones_name(locked: dict[str, Any]) -> None:
    with pytest.raises(ReleaseFailed, match=r"as clean 2\.0"):
        wheel_of(locked, "3.11")
    [told] = locked_packages({"package": [locked]})
    assert told.strange, "the check says nothing"


@pytest.mark.parametrize("sdist", ["poison-2.0.tar.gz", "clean-1.0.tar.gz", "clean-2.0-poison-2.0.zip", "x.tar.gz"])
async def test_no_source_of_another_package_is_built_under_a_clean_ones_name(shop: Workshop, sdist: str) -> None:
    asked = SourceDistribution("clean", f"{WHERE}/{sdist}", "ab" * 32, "2.0")
    with pytest.raises(ReleaseFailed, match=r"as clean 2\.0"):  # before anything is fetched
        await SdistBuilder(shop, shop.folder / "kept").build(asked, shop.folder)
    [told] = locked_packages({"package": [package(sdist=sdist)]})
    assert told.strange == (sdist,)


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("zope.interface-5.0.tar.gz", "zope-interface", "5.0"),
        ("torch-2.0+cpu-cp311-cp311-linux_x86_64.whl", "Torch", "2.0+cpu"),
        ("ruamel_yaml-0.18.0-py3-none-any.whl", "ruamel.yaml", "0.18"),
        ("a-b-1.0rc1.zip", "a_b", "1.0.rc1"),
    ],
)
def test_an_honest_file_is_of_its_package_however_it_is_spelt(file: str, name: str, version: str) -> None:
    assert is_of(file, name, version)


def wheel(path: Path, files: dict[str, str], entry_points: str = "", links: dict[str, str] | None = None) -> Path:
    """A wheel of `evil` with these files."""
    with zipfile.ZipFile(path / "evil-1-py3-none-any.whl", "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            opened.writestr(info, target)
        opened.writestr("evil-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
        opened.writestr("evil-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr("evil-1.dist-info/RECORD", "")
        opened.writestr("evil-1.dist-info/entry_points.txt", entry_points)
    return path / "evil-1-py3-none-any.whl"


WHEELS: dict[str, Callable[[Path], Path]] = {
    "a file": lambda at: wheel(at, {"../../../../../marks/ran": "x"}),
    "data": lambda at: wheel(at, {"evil-1.data/data/../../../marks/ran": "x"}),
    "a script": lambda at: wheel(at, {"evil-1.data/scripts/../../../marks/ran": "#!python\n"}),
    "headers": lambda at: wheel(at, {"evil-1.data/headers/../../../../../../marks/ran": "x"}),
    "an entry point": lambda at: wheel(at, {}, "[console_scripts]\n../../../marks/ran = evil:main\n"),
    "an entry point by path": lambda at: wheel(at, {}, f"[console_scripts]\n{at.parent}/marks/ran = evil:main\n"),
    "the interpreter": lambda at: wheel(at, {"evil-1.data/data/bin/python": "#!/bin/sh\n"}),
    "a link out": lambda at: wheel(at, {"link/ran": "x"}, links={"link": str(at.parent / "marks")}),
    "a hook at start": lambda at: wheel(at, {"evil.pth": f"import os; open({str(at.parent / 'marks/ran')!r}, 'w')"}),
}


@pytest.mark.parametrize("what", WHEELS)
async def test_nothing_of_a_wheel_lies_outside_its_environment_or_runs_as_it_is_installed(
    folder: Path, shop: Workshop, what: str
) -> None:
    marks = folder / "marks"
    marks.mkdir(mode=0o777)
    made = folder / "wheels"
    made.mkdir()
    python = str(shop.isolation.python)
    await shop.run_uv(["venv", "--no-project", "--relocatable", "--python", python, str(shop.environment)])
    try:
        await install_wheels(shop, [WHEELS[what](made)])
        await shop.compile()
        await shop.ask_uv(["--version"])
    except ReleaseFailed:
        pass  # refused, which is as good
    assert list(marks.iterdir()) == []
    assert not (shop.environment / "bin" / "python").resolve().is_relative_to(folder)


async def describing(releases: Releases, home: Home, code: str) -> Made:
    """What comes of a project whose code runs as its tools are read."""
    real = unpack(releases.archive(ONE, before=f"# {code}"))
    path = "src/pegboard/describe.py"
    described = File(code.encode() + b"\nos.chdir('/')\n" + real[path].content)

    async def tell(_step: str, _what: str) -> None:
        return None

    return await releases.builder(home).build("b1", ONE, pack({**real, path: described}), tell)


async def test_folders_within_folders_that_a_build_leaves_do_not_outlive_it(releases: Releases, folder: Path) -> None:
    home = Home.open(folder / "home")
    made = await describing(releases, home, DEEP)
    assert made.artifact.files
    assert list((home.root / "builds").iterdir()) == []


def test_what_a_killed_build_left_keeps_nobody_from_starting(folder: Path) -> None:
    """However deep, closed to everybody, or a link: `pegboard up` goes over it before it starts anything."""
    home = Home.open(folder / "home")
    kept = folder / "kept"
    kept.mkdir()
    (kept / "file").write_text("somebody's")
    left = home.build("b1") / "work"
    left.mkdir(parents=True)
    (left / "link").symlink_to(kept)
    (left / "closed").mkdir()
    (left / "closed" / "file").write_text("x")
    (left / "closed").chmod(0)
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(left)
        exec(DEEP, {})  # noqa: S102 - as an author's code does
    finally:
        os.fchdir(here)
        os.close(here)
    with pytest.raises(RecursionError):
        shutil.rmtree(left, ignore_errors=True)
    clear_builds(home)
    assert list((home.root / "builds").iterdir()) == []
    assert (kept / "file").read_text() == "somebody's"


HIDES = {
    "a file without a name": "f = open('x', 'wb'); os.unlink('x'); f.write(bytes(8 << 20)); f.flush()",
    "one that is mapped alone": (
        "import mmap; f = open('x', 'w+b'); os.unlink('x'); f.write(bytes(8 << 20)); f.flush(); "
        "m = mmap.mmap(f.fileno(), 0); f.close(); os.closerange(3, 64)"
    ),
    "one of a process of its own": (
        "os.fork() or os.setsid(); f = open('x', 'wb'); os.unlink('x'); f.write(bytes(8 << 20)); f.flush()"
    ),
}


@pytest.mark.parametrize("how", HIDES)
async def test_what_a_build_writes_counts_where_it_takes_its_name_away(
    releases: Releases, folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(confined, "MOST_DISK", 4 << 20)
    monkeypatch.setattr(confined, "LOOK_S", 0.1)
    with pytest.raises(ReleaseFailed, match="fills the disk"):
        await describing(releases, Home.open(folder / "home"), f"import os, time\n{HIDES[how]}\ntime.sleep(25)")
