"""The tutorial's commands, run as they stand: each ends as the page says and prints what the page shows."""

from __future__ import annotations

import pytest

from tests.system.instance import REPOSITORY, Instance
from tests.system.pages import Command, commands, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

TUTORIAL = (REPOSITORY / "docs" / "tutorials" / "your-first-call.md").read_text(encoding="utf-8")
COMMANDS = [command for command in commands(TUTORIAL) if command.text.startswith("pegboard ")]


def test_every_call_of_the_tutorial_is_run_here() -> None:
    assert len(COMMANDS) == TUTORIAL.count("\npegboard ") > 0


def test_every_call_of_the_tutorial_shows_what_it_prints() -> None:
    assert [command.text for command in COMMANDS if not command.shown] == []


@pytest.mark.parametrize("command", COMMANDS, ids=[command.text[:60] for command in COMMANDS])
def test_tutorial_command_does_what_the_page_shows(pegboard: Instance, command: Command) -> None:
    command.follow(REPOSITORY, reader_at(pegboard))
