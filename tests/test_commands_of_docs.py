"""Every command that a page names is one that there is, with its options: one that was renamed helps nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
PAGES = sorted(
    path for folder in ("guides", "tutorials", "concepts") for path in (REPOSITORY / "docs" / folder).glob("*.md")
)
SECTIONS = dict(re.findall(r"^## `pegboard ([^`]+)`\n(.*?)(?=^## |\Z)", REFERENCE, re.M | re.S))
"""What the reference says of each command, by its words."""

NOT_A_CALL = r"(?<![\w/.=-])(?<!from )(?<!import )(?<!install )(?<!-n )"
CALL = re.compile(NOT_A_CALL + r"pegboard((?: [a-z]+(?:-[a-z]+)*(?![\w/.]))+)([^`\n|;&]*)")
"""A call in code: words first, then whatever belongs to it."""

PROSE = {"pegboard command has held"}
"""Words of messages that are no calls."""

EVERYWHERE = {"--help", "--json", "--as", "--surface", "--channel", "--url"}


def calls(page: str) -> Iterator[tuple[str, list[str]]]:
    """Words and options of each call in the code of a page."""
    for code in re.findall(r"^```(?:sh|console)?[^\n]*\n(.*?)^```|^    (\S[^\n]*)$|`([^`\n]+)`", page, re.M | re.S):
        for words, rest in CALL.findall(re.sub(r'"[^"\n]*"', "x", "\n".join(code))):
            yield words.strip(), re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)


def command_of(words: str) -> str | None:
    """The command that these words begin with; None where there is none."""
    parts = words.split()
    return next((" ".join(parts[:n]) for n in range(len(parts), 0, -1) if " ".join(parts[:n]) in SECTIONS), None)


def faults(page: str) -> list[str]:
    """What a page names and is not there."""
    found = []
    for words, options in calls(page):
        command = command_of(words)
        if command is None:
            if f"pegboard {words}" not in PROSE and not any(
                name.startswith(f"{words} ") for name in SECTIONS
            ):  # a group of commands, as `pegboard keys`
                found.append(f"pegboard {words}")
            continue
        known = EVERYWHERE | set(re.findall(r"--[a-z][a-z-]*", SECTIONS[command]))
        found += [f"pegboard {command} {option}" for option in options if option not in known]
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_that_a_page_names_is_there_with_its_options(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_a_command_or_option_that_is_not_there_is_found() -> None:
    assert faults("`pegboard fly`") == ["pegboard fly"]
    assert faults("```sh\npegboard status --home x --fast\n```") == ["pegboard status --fast"]
    assert faults("`pegboard keys`, `pegboard keys leaked --why x`, `pegboard status`") == []
