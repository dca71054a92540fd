"""The publishing guide, followed to the letter in a copy of the clone: the server it builds starts and answers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.instance import REPOSITORY, Instance, running
from tests.system.pages import Command, commands, files, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("guide")]

GUIDE = (REPOSITORY / "docs" / "guides" / "publish-a-server.md").read_text(encoding="utf-8")
COMMANDS = commands(GUIDE)
START = next(place for place, command in enumerate(COMMANDS) if "\npegboard up" in command.text)
COPY, *BUILD = COMMANDS[:START]
CALLS = COMMANDS[START + 1 :]


@pytest.fixture(scope="module")
def clone() -> Iterator[Path]:
    """As much of a clone as the guide needs, with the server that the guide builds in it."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    try:
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        scratch = REPOSITORY / "servers" / "scratch"
        shutil.copytree(
            scratch, folder / "servers" / "scratch", ignore=shutil.ignore_patterns(".venv", "__pycache__")
        )
        for name in ("kit", "hub", ".tools"):
            (folder / name).symlink_to(REPOSITORY / name)
        outside = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        COPY.follow(folder, outside)
        for path, text in files(GUIDE).items():
            (folder / path).write_text(text, encoding="utf-8")
        for command in BUILD:
            command.follow(folder, outside)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def weather(clone: Path) -> Iterator[Instance]:
    """A Pegboard started as the guide says, with the guide's grants."""
    options = shlex.split(COMMANDS[START].text.splitlines()[-1])[2:]
    given = [str(clone / word) if word.endswith(".toml") else word for word in options]
    with running(*given, expected={"hub", "edge", "dev/weather"}) as instance:
        yield instance


def test_the_guide_s_server_keeps_the_style_that_make_test_checks(clone: Path) -> None:
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", "servers/weather"]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_guide_leaves_nothing_of_the_server_it_copied(clone: Path) -> None:
    server = clone / "servers" / "weather"
    own = [
        path for path in server.rglob("*") if path.is_file() and ".venv" not in path.parts and path.suffix != ".pyc"
    ]
    assert len(own) > 8
    assert [str(path) for path in own if "scratch" in (path.name + path.read_text(encoding="utf-8")).lower()] == []


def test_the_guide_has_calls_and_a_refusal_of_either_layer() -> None:
    told = " ".join(line for command in CALLS for line in command.shown)
    assert "refused by the server" in told
    assert "refused by the edge" in told


@pytest.mark.parametrize("command", CALLS, ids=[command.text[:60] for command in CALLS])
def test_guide_command_does_what_the_page_shows(weather: Instance, clone: Path, command: Command) -> None:
    command.follow(clone, reader_at(weather))
