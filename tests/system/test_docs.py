"""Commands of pages that explain with the demo, and of the operator's guide, do what their page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.instance import REPOSITORY, Instance
from tests.system.pages import Command, commands, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PAGES = (
    "tutorials/your-first-call",
    "guides/connect-your-ide",
    "guides/point-your-ide-at-the-registry",
    "guides/why-was-it-refused",
    "guides/look-after-clients",
)
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


OPERATOR = (REPOSITORY / "docs" / "guides" / "run-an-instance.md").read_text(encoding="utf-8")
RUNBOOK = (REPOSITORY / "docs" / "guides" / "runbook.md").read_text(encoding="utf-8")


def test_the_operator_s_commands_do_what_the_page_says(pegboard: Instance, tmp_path: Path) -> None:
    operator = {**reader_at(pegboard), "PEGBOARD_HOME": str(pegboard.home.root)}
    found = commands(OPERATOR)
    assert {command.text.split()[1] for command in found} >= {"backup", "restore"}
    for command in found:
        command.follow(tmp_path, operator)
    assert (tmp_path / "restored" / "data" / "pegboard.db").exists()


def test_what_the_runbook_s_index_says_one_sees_is_what_the_code_says() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for part in ("kit", "hub") for path in (REPOSITORY / part).rglob("*.py")
    )
    [index] = re.findall(r"^\| you see \| section \|\n.*?\n\n", RUNBOOK, re.M | re.S)
    seen = [part for phrase in re.findall(r"`([^`]+)`", index) for part in phrase.split("…")]
    assert len(seen) > 15
    assert [part for part in seen if part.strip() not in code] == []


def test_every_section_of_the_runbook_is_in_its_index_and_says_how_it_is_over() -> None:
    sections = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.M | re.S)
    linked = re.findall(r"\| \[([^]]+)\]\(#", RUNBOOK)
    assert sorted(name for name, _ in sections) == sorted(linked)
    assert [name for name, text in sections if "**You see**" not in text or "**You do**" not in text] == []
    harmless = {"A second up", "The database is newer"}
    assert {name for name, text in sections if "**It is over**" not in text} == harmless
