"""The tutorial's commands, run as they stand: each ends as the page says and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.instance import REPOSITORY, Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

TUTORIAL = REPOSITORY / "docs" / "tutorials" / "your-first-call.md"
BLOCK = re.compile(
    r"^```sh(?: exit=(?P<status>\d))?\n(?P<command>.+?)\n```\n\n```text\n(?P<shown>.+?)\n```$", re.M | re.S
)


class Example(NamedTuple):
    """A command of a page, its exit status, and lines that its output has."""

    command: str
    status: int
    shown: list[str]


def examples(page: Path) -> list[Example]:
    return [
        Example(found["command"], int(found["status"] or 0), found["shown"].splitlines())
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


EXAMPLES = examples(TUTORIAL)


def test_every_command_of_the_tutorial_is_run_here() -> None:
    assert len(EXAMPLES) == TUTORIAL.read_text(encoding="utf-8").count("```sh") > 0


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.command[:60] for example in EXAMPLES])
def test_tutorial_command_does_what_the_page_shows(pegboard: Instance, example: Example) -> None:
    environment = {**os.environ, "PEGBOARD_PORT": pegboard.public_url.rpartition(":")[2], "COLUMNS": "200"}
    command = shlex.split(example.command)
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    printed = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == example.status, printed
    for line in example.shown:
        assert " ".join(line.split()) in printed
