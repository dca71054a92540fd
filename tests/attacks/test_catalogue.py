"""The catalogue of attacks, against the real stack: whole, with each layer opened on purpose, and with both.

What a row must say is in `catalogue/attack.py`, what counts as through in `catalogue/stand.py`, and how it is judged
in `catalogue/judging.py`: zero get through; one layer alone is excused only where it is opened and the other cannot
hold; and an attack must succeed where nobody looks, or it proves nothing.

That it can fail was tried: each of these was taken out of the product alone, and rows failed for it.

- edge: the filters `strip`, `door`, `mcp`, `agreement`, `audience`, `scope`, `surface`, `channel`, `group`,
  `sensitivity`, `stopped`, and what it takes away of servers' answers.
- server: one reading of the body, UTF-8 alone, each claim once, the look at the origin; without the gate or the list
  of what is revoked the stand does not begin.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.catalogue.attack import ABSENT, LOOK, Attack
from tests.attacks.catalogue.judging import judge
from tests.attacks.catalogue.people import TOLD_APART, by_chance
from tests.attacks.catalogue.promises import FILES, PROMISES
from tests.attacks.catalogue.stand import EDGE_GONE, Stand, standing
from tests.attacks.catalogue.table import ATTACKS

HERE = Path(__file__).parent
SECURITY = HERE.parents[1] / "SECURITY.md"


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with standing() as found:
        yield found


@pytest.mark.system
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.id for attack in ATTACKS])
def test_nothing_gets_through(stand: Stand, attack: Attack) -> None:
    assert judge(stand, attack).faults == (), attack.sends


@pytest.mark.system
@pytest.mark.heavy  # on a machine that is busy with much else, a clock tells nothing at all
def test_the_clock_that_tells_nothing_of_hidden_tools_would_tell_a_difference(stand: Stand) -> None:
    assert any(by_chance(stand, EDGE_GONE, (LOOK, ABSENT)) < TOLD_APART for _ in range(10))


# The catalogue itself


def test_there_are_enough_attacks_and_each_has_a_name_of_its_own() -> None:
    names = Counter(attack.id for attack in ATTACKS)
    assert [name for name, times in names.items() if times > 1] == []
    assert len(ATTACKS) >= 150


def test_every_promise_is_one_of_security_md_and_is_attacked() -> None:
    said = re.split(
        r"\n- ", SECURITY.read_text(encoding="utf-8").partition("## What Pegboard promises")[2].partition("## ")[0]
    )
    written = {" ".join(line.partition("\n\n")[0].split()) for line in said}
    assert set(PROMISES.values()) == written - {""}, "promises.py and SECURITY.md differ"
    attacked = {attack.promise for attack in ATTACKS} | {each for promises in FILES.values() for each in promises}
    assert attacked == set(PROMISES)


def test_every_file_of_attacks_says_which_promises_it_tests() -> None:
    there = {f"attacks/{path.name}" for path in HERE.glob("test_*.py") if not path.name.startswith("test_catalogue")}
    said = {name for name in FILES if name.startswith("attacks/")}
    assert there == said, "say it in FILES of tests/attacks/catalogue/promises.py, and then make docs"
    assert all((HERE.parent / name).is_file() and promises for name, promises in FILES.items())
