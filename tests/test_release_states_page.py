"""The concept page "from a project to a release" draws the states that there are."""

from __future__ import annotations

import re
from pathlib import Path

from pegboard.core.publishing import NEXT, State

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "concepts" / "from-a-project-to-a-release.md").read_text(
    "utf-8"
)


def test_the_diagram_has_every_transition_and_no_other() -> None:
    [diagram] = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    drawn = [tuple(each) for each in re.findall(r"^ +(\S+) --> (\S+?)(?::.*)?$", diagram, re.MULTILINE)]
    assert len(drawn) == len(diagram.strip().splitlines())
    steps = {(_name(before), _name(after)) for before, afters in NEXT.items() for after in afters}
    assert sorted(drawn) == sorted({("[*]", State.SUBMITTED.value)} | steps)


def _name(state: State) -> str:
    return state.value.replace(" ", "_")
