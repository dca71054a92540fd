"""What the database said is told again until the registry changes, and never after."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pegboard_hub.registry.model import Snapshot
from pegboard_hub.web.remembered import Remembered

pytestmark = pytest.mark.anyio


class Table:
    """A table that says how often it was read."""

    def __init__(self, *, embedded: bool = True) -> None:
        self.parts: Any = SimpleNamespace(
            database=SimpleNamespace(embedded=embedded), registry=SimpleNamespace(current=Snapshot())
        )
        self.read = 0
        self.changes_meanwhile = False

    def change(self) -> None:
        self.parts.registry.current = Snapshot()

    async def ask(self) -> int:
        self.read += 1
        said = self.read
        if self.changes_meanwhile:
            self.change()
        return said


async def test_it_is_read_once_for_each_question_until_the_registry_changes() -> None:
    table = Table()
    remembered = Remembered[int](table.parts, 10)
    assert [await remembered.get(question, table.ask) for question in "aabab"] == [1, 1, 2, 1, 2]
    table.change()
    assert [await remembered.get(question, table.ask) for question in "aa"] == [3, 3]


async def test_what_was_read_while_the_registry_changed_is_not_told_again() -> None:
    table = Table()
    remembered = Remembered[int](table.parts, 10)
    table.changes_meanwhile = True
    assert await remembered.get("a", table.ask) == 1
    table.changes_meanwhile = False
    assert await remembered.get("a", table.ask) == 2


async def test_beside_other_hubs_it_is_read_each_time() -> None:
    table = Table(embedded=False)
    remembered = Remembered[int](table.parts, 10)
    assert [await remembered.get("a", table.ask) for _ in range(3)] == [1, 2, 3]


async def test_what_is_remembered_has_an_end() -> None:
    table = Table()
    remembered = Remembered[int](table.parts, 2)
    for question in range(9):
        await remembered.get(question, table.ask)
        assert len(remembered._kept) <= 2
