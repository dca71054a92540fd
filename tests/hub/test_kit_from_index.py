"""A project that gets the kit from the hub's index becomes a release with the platform's own kit."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.releases import ReleaseMaker
from tests.system.runtime_kit import short_folder

pytestmark = pytest.mark.anyio

SCRATCH = Path(__file__).parents[2] / "servers" / "scratch"
NAME = ServerName("dev", "scratch")


def locked(folder: Path, version: str) -> Path:
    """dev/scratch with that version of the kit in its lock file, of an index that nobody serves here."""
    project = folder / "scratch"
    shutil.copytree(SCRATCH, project, ignore=shutil.ignore_patterns(".venv", "__pycache__", "tests"))
    lock = (project / "uv.lock").read_text()
    head = '[[package]]\nname = "pegboard"\nversion = '
    was = re.search(re.escape(head) + r'"([^"]+)"\nsource = \{ registry = "http://localhost:8400/', lock)
    assert was is not None
    lock = lock.replace(f'{head}"{was[1]}"', f'{head}"{version}"').replace(
        f"pegboard-{was[1]}-", f"pegboard-{version}-"
    )
    (project / "uv.lock").write_text(lock)
    return project


async def test_a_locked_kit_is_the_platforms_own() -> None:
    folder = short_folder()
    try:
        home = Home.open(folder / "home")
        kept = Shelf(home).keep_current()
        isolation = choose("auto", home, [str(NAME)], preflight.find_envoy())
        prepare(home, isolation, [NAME])
        maker = ReleaseMaker(home, isolation, preflight.find_uv())
        release = await maker.make(NAME, locked(folder, kept.version), lambda _: None)
        assert [tool.name for tool in release.declaration.tools] == ["echo", "note"]
        assert release.declaration.instructions.startswith("A place to try Pegboard")
        [installed] = home.environment(NAME).glob("lib/python*/site-packages/pegboard/project.py")
        with zipfile.ZipFile(kept.path) as wheel:
            assert installed.read_bytes() == wheel.read("pegboard/project.py")
        other = locked(folder / "other", "0.0.9")
        with pytest.raises(ReleaseFailed, match=r"pegboard 0\.0\.9, is not one that this Pegboard has: run `uv lock"):
            await maker.make(NAME, other, lambda _: None)
    finally:
        shutil.rmtree(folder)
