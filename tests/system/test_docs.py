"""The commands of pages that explain with the demo: each ends as its page says and prints what the page shows."""

from __future__ import annotations

import pytest

from tests.system.instance import REPOSITORY, Instance
from tests.system.pages import Command, commands, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PAGES = ("tutorials/your-first-call", "guides/why-was-it-refused")
"""Pages whose commands are all for a running demo."""

TEXTS = {page: (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in PAGES}
STARTS = ("pegboard ", "URL=")
COMMANDS = [command for text in TEXTS.values() for command in commands(text) if command.text.startswith(STARTS)]


def test_every_call_of_the_pages_is_run_here() -> None:
    assert len(COMMANDS) == sum(text.count(f"\n{start}") for text in TEXTS.values() for start in STARTS)


def test_every_call_of_the_pages_shows_what_it_prints() -> None:
    assert [command.text for command in COMMANDS if not command.shown] == []


@pytest.mark.parametrize("command", COMMANDS, ids=[command.text[:60] for command in COMMANDS])
def test_a_command_of_a_page_does_what_the_page_shows(pegboard: Instance, command: Command) -> None:
    here = command.text.replace("http://localhost:8400", pegboard.public_url)
    command._replace(text=here).follow(REPOSITORY, reader_at(pegboard))
