"""The concept page "people in the loop" draws the states that there are."""

from __future__ import annotations

import re
from pathlib import Path

from pegboard.core.approval import NEXT, State

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "concepts" / "people-in-the-loop.md").read_text("utf-8")


def test_the_diagram_has_every_transition_and_no_other() -> None:
    [diagram] = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    drawn = {tuple(each) for each in re.findall(r"^ +(\S+) --> (\S+?)(?::.*)?$", diagram, re.MULTILINE)}
    assert len(drawn) == len(diagram.strip().splitlines())
    begins = {("[*]", State.REQUESTED.value)}
    steps = {(before.value, after.value) for before, afters in NEXT.items() for after in afters}
    ends = {(state.value, "[*]") for state, afters in NEXT.items() if not afters}
    assert drawn == begins | steps | ends
