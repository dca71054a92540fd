"""The publishing guide, followed to the letter in a copy of the clone: the server it builds starts and answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.instance import REPOSITORY, Instance, running
from tests.system.pages import Command, commands, files, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("guide"), pytest.mark.heavy]

GUIDE = (REPOSITORY / "docs" / "guides" / "publish-a-server.md").read_text(encoding="utf-8")
COMMANDS = commands(GUIDE)
SUBMIT = next(place for place, command in enumerate(COMMANDS) if command.text.startswith("pegboard submit"))
COPY, *BUILD = COMMANDS[: SUBMIT + 1]
CALLS = COMMANDS[SUBMIT + 1 :]


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def clone(instance: Instance) -> Iterator[Path]:
    """As much of a clone as the guide needs, with the server that the guide builds in it, submitted."""
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
        reader = {name: value for name, value in reader_at(instance).items() if name != "VIRTUAL_ENV"}
        COPY.follow(folder, reader)
        for path, text in files(GUIDE).items():
            (folder / path).write_text(text, encoding="utf-8")
        described = folder / "servers" / "weather" / "pyproject.toml"
        described.write_text(described.read_text().replace("http://localhost:8400", instance.public_url))
        for command in BUILD:
            command.follow(folder, reader)
        yield folder
    finally:
        shutil.rmtree(folder)


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
def test_guide_command_does_what_the_page_shows(instance: Instance, clone: Path, command: Command) -> None:
    command.follow(clone, reader_at(instance))
