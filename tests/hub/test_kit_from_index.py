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
AWAY = "http://localhost:1/packages"
"""An index that nobody serves: the platform needs none for the kit."""


def written(folder: Path, version: str) -> Path:
    """dev/scratch as an author's: with the kit locked from an index, in that version."""
    project = folder / "scratch"
    skipped = shutil.ignore_patterns(".venv", "__pycache__", "tests")
    shutil.copytree(SCRATCH, project, ignore=skipped)
    described = (project / "pyproject.toml").read_text()
    described = described.replace('{ path = "../../kit", editable = true }', '{ index = "pegboard" }')
    index = f'\n[[tool.uv.index]]\nname = "pegboard"\nurl = "{AWAY}/simple/"\nexplicit = true\n'
    (project / "pyproject.toml").write_text(described + index)
    locked = (project / "uv.lock").read_text()
    wheel = f'wheels = [\n    {{ url = "{AWAY}/files/pegboard-{version}-py3-none-any.whl" }},\n]\n'
    own = re.compile(r'(name = "pegboard"\nversion = )"[^"]+"\nsource = \{ editable = "../../kit" \}\n(.*?)\n\[package\.metadata\].*?\n\n(?=\[\[package)', re.DOTALL)  # fmt: skip  # noqa: E501
    locked, count = own.subn(rf'\1"{version}"\nsource = {{ registry = "{AWAY}/simple/" }}\n{wheel}\2\n\n', locked)
    assert count == 1
    (project / "uv.lock").write_text(locked.replace('editable = "../../kit"', f'index = "{AWAY}/simple/"'))
    return project


async def test_a_locked_kit_is_the_platforms_own() -> None:
    folder = short_folder()
    try:
        home = Home.open(folder / "home")
        kept = Shelf(home).keep_current()
        isolation = choose("auto", home, [str(NAME)], preflight.find_envoy())
        prepare(home, isolation, [NAME])
        maker = ReleaseMaker(home, isolation, preflight.find_uv())
        release = await maker.make(NAME, written(folder, kept.version), lambda _: None)
        assert [tool.name for tool in release.declaration.tools] == ["echo", "note"]
        assert release.declaration.instructions.startswith("A place to try Pegboard")
        [installed] = home.environment(NAME).glob("lib/python*/site-packages/pegboard/project.py")
        with zipfile.ZipFile(kept.path) as wheel:
            assert installed.read_bytes() == wheel.read("pegboard/project.py")
        other = written(folder / "other", "0.0.9")
        with pytest.raises(ReleaseFailed, match=r"pegboard 0\.0\.9, is not one that this Pegboard has: run `uv lock"):
            await maker.make(NAME, other, lambda _: None)
    finally:
        shutil.rmtree(folder)
