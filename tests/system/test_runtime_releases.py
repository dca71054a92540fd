"""A release is made without running its author's code outside isolation, and needs its source no more."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight, workshop
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.credentials import issue
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.releases import ReleaseMaker
from tests.system.runtime_kit import ONE, TWO, short_folder, write_project

pytestmark = [pytest.mark.anyio, pytest.mark.system]


@pytest.fixture
def folder() -> Iterator[Path]:
    found = short_folder()
    yield found
    shutil.rmtree(found)


@pytest.fixture
def home(folder: Path) -> Home:
    return Home.open(folder / "home")


def maker_at(home: Home) -> ReleaseMaker:
    isolation = choose("auto", home, [str(ONE), str(TWO)], preflight.find_envoy())
    prepare(home, isolation, [ONE, TWO])
    return ReleaseMaker(home, isolation, preflight.find_uv())


async def test_the_second_start_takes_the_release_as_it_is(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "one")
    told: list[str] = []
    first = await maker_at(home).make(ONE, project, told.append)
    made_at = home.declaration(ONE).stat().st_mtime_ns
    assert told
    told.clear()
    assert await maker_at(home).make(ONE, project, told.append) == first
    assert told == []
    assert home.declaration(ONE).stat().st_mtime_ns == made_at


async def test_a_changed_source_makes_a_new_release(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "one")
    first = await maker_at(home).make(ONE, project, lambda _: None)
    manifest = project / "pegboard.toml"
    manifest.write_text(manifest.read_text().replace("does what it is told", "does something else"))
    second = await maker_at(home).make(ONE, project, lambda _: None)
    assert second.digest != first.digest
    assert second.declaration.manifest.description == "does something else"


async def test_changed_code_is_told_to_the_hub_though_its_declaration_is_the_same(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "one")
    isolation = choose("auto", home, [str(ONE), str(TWO)], preflight.find_envoy())
    told = []
    for line in ("", "# does something else\n"):
        with (project / "src" / "pegboard" / "serve.py").open("a") as code:
            code.write(line)
        release = await maker_at(home).make(ONE, project, lambda _: None)
        issue(home, isolation, [release])
        told += json.loads(home.channels.read_text()).values()
    assert told[0]["release"] == told[1]["release"]
    assert told[0]["source"] != told[1]["source"]


async def test_a_release_does_not_follow_its_source(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "one")
    release = await maker_at(home).make(ONE, project, lambda _: None)
    shutil.rmtree(project)
    installed = list(home.environment(ONE).glob("lib/python3*/site-packages/pegboard/serve.py"))
    assert len(installed) == 1
    assert (home.project(ONE) / "pegboard.toml").exists()
    assert release.python.exists()


@pytest.mark.parametrize(
    ("describe", "told"),
    [
        ("import sys; sys.exit('tool x says nothing about access')", "tool x says nothing about access"),
        ("print('hello')", "is no declaration"),
        ("while True: print('x' * 65536)", "printed more than"),
        ("import time; time.sleep(600)", "took longer than"),
    ],
)
async def test_a_server_that_fails_is_told_clearly_and_leaves_no_old_declaration(
    folder: Path, home: Home, describe: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_project(folder / "good", "one")
    await maker_at(home).make(ONE, good, lambda _: None)
    if "sleep" in describe:
        monkeypatch.setattr(workshop, "DESCRIBE_TIMEOUT_S", 3)
    bad = write_project(folder / "bad", "one", describe=describe)
    with pytest.raises(ReleaseFailed, match=told):
        await maker_at(home).make(ONE, bad, lambda _: None)
    assert not home.declaration(ONE).exists()


async def test_reading_tools_cannot_reach_the_hubs_keys(folder: Path, home: Home) -> None:
    key = home.keys / "token-signing.jwk.json"
    key.write_text("a private key")
    project = write_project(folder / "one", "one", describe=f"print(open({str(key)!r}).read())")
    maker = maker_at(home)
    if maker._isolation.mode == "off":
        pytest.skip("isolation is off here: bubblewrap is not installed and this is not root")
    with pytest.raises(ReleaseFailed, match=r"(PermissionError|FileNotFoundError)"):
        await maker.make(ONE, project, lambda _: None)


async def test_a_build_that_would_run_the_authors_code_is_refused(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "one", backend="setuptools.build_meta")
    with pytest.raises(ReleaseFailed, match="set it to 'uv_build'"):
        await maker_at(home).make(ONE, project, lambda _: None)


async def test_a_project_granted_under_another_name_is_refused(folder: Path, home: Home) -> None:
    project = write_project(folder / "one", "other")
    with pytest.raises(ReleaseFailed, match="names it 'other', and it is granted as prod/one"):
        await maker_at(home).make(ONE, project, lambda _: None)


async def test_what_a_describer_starts_ends_with_it(folder: Path, home: Home) -> None:
    sleeper = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    describe = f"import subprocess, sys; {sleeper}; sys.exit(3)"
    project = write_project(folder / "one", "one", describe=describe)
    with pytest.raises(ReleaseFailed, match="tools cannot be read"):
        await maker_at(home).make(ONE, project, lambda _: None)
    async with asyncio.timeout(60):
        while running_from(home.environment(ONE)):
            await asyncio.sleep(0.05)


def running_from(environment: Path) -> list[int]:
    """Processes whose command line names a file of this environment."""
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and str(environment).encode() in _command_line(process)
    ]


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
