"""How many costly calls run at once: nobody gets more than their share, and every place comes back."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import anyio.lowlevel
import pytest

from pegboard import ConcurrencyLimit, ToolError
from pegboard.call.context import CALLER, FOR_NOBODY
from pegboard.core.caller import Caller

pytestmark = pytest.mark.anyio


def limit(per_caller: int = 2, at_once: int = 2, waiting: int = 2, wait_s: float = 30) -> ConcurrencyLimit:
    return ConcurrencyLimit("queries", per_caller=per_caller, at_once=at_once, waiting=waiting, wait_s=wait_s)


class People:
    """Callers who hold a turn until they are told to end."""

    def __init__(self, limit: ConcurrencyLimit, group: anyio.abc.TaskGroup) -> None:
        self._limit = limit
        self._group = group
        self.running: list[str] = []
        self.refused: dict[str, str] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}
        self._ends: dict[str, anyio.Event] = {}

    async def come(self, name: str, sub: str, kind: str = "person", surface: str = "cli") -> None:
        """A call named `name` by `sub`; it has run, waits, or is refused when this returns."""
        self._ends[name], self.scopes[name] = anyio.Event(), anyio.CancelScope()
        self._group.start_soon(self._call, name, sub, kind, surface)
        await anyio.wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await anyio.wait_all_tasks_blocked()

    async def leave(self, name: str) -> None:
        self.scopes[name].cancel()
        await anyio.wait_all_tasks_blocked()

    async def _call(self, name: str, sub: str, kind: str, surface: str) -> None:
        CALLER.set(Caller(sub, kind, (), surface, "c", "a", 0, "t"))  # type: ignore[arg-type]
        with self.scopes[name]:
            try:
                async with self._limit.turn():
                    self.running.append(name)
                    try:
                        await self._ends[name].wait()
                    finally:
                        self.running.remove(name)
            except ToolError as error:
                self.refused[name] = str(error)


async def test_one_caller_has_one_share_whatever_the_surface_and_a_service_of_that_name_has_its_own() -> None:
    async with anyio.create_task_group() as group:
        people = People(limit(per_caller=1, at_once=9), group)
        await people.come("first", "ana")
        await people.come("from chat", "ana", surface="chat")
        await people.come("service", "ana", kind="service", surface="service")
        await people.come("fay", "fay")
        assert people.running == ["first", "service", "fay"]
        assert people.refused["from chat"].startswith("You have 1 queries running or waiting here")
        await people.end("first")
        await people.come("again", "ana")
        assert "again" in people.running
        group.cancel_scope.cancel()


async def test_who_waits_is_served_in_order_and_who_finds_the_queue_full_is_told() -> None:
    async with anyio.create_task_group() as group:
        people = People(limit(), group)
        for name in ("a", "b", "c", "d", "e"):
            await people.come(name, name)
        assert people.running == ["a", "b"]
        assert "2 queries are running and 2 are waiting" in people.refused["e"]
        await people.end("a")
        assert people.running == ["b", "c"]
        await people.end("b")
        assert people.running == ["c", "d"]
        group.cancel_scope.cancel()


async def test_a_call_that_waits_counts_as_the_callers_and_gives_its_place_back_when_cancelled() -> None:
    async with anyio.create_task_group() as group:
        people = People(limit(per_caller=2, at_once=1), group)
        await people.come("runs", "ana")
        await people.come("waits", "ana")
        await people.come("third", "ana")
        assert "third" in people.refused
        await people.leave("waits")
        await people.come("fay waits", "fay")
        await people.come("ana waits", "ana")
        assert people.refused.keys() == {"third"}
        await people.leave("runs")
        assert people.running == ["fay waits"]
        group.cancel_scope.cancel()


async def test_nobody_waits_longer_than_the_limit() -> None:
    async with anyio.create_task_group() as group:
        people = People(limit(at_once=1, wait_s=0.05), group)
        await people.come("runs", "ana")
        await people.come("waits", "fay")
        with anyio.fail_after(60):
            while "waits" not in people.refused:
                await anyio.sleep(0.01)
        assert "none ended within 0.05 s" in people.refused["waits"]
        await people.leave("runs")
        await people.come("next", "fay")
        assert people.running == ["next"]
        group.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_no_place_is_lost_whenever_callers_leave(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - chosen again in the same way
    limited = limit(per_caller=2, at_once=3, waiting=3, wait_s=0.001)
    running: Counter[str] = Counter()

    async def call(sub: str) -> None:
        CALLER.set(Caller(sub, "person", (), "cli", "c", "a", 0, "t"))
        with anyio.move_on_after(chance.choice((0, 0, 0.001, 0.01))):
            try:
                async with limited.turn():
                    running[sub] += 1
                    try:
                        assert running[sub] <= 2
                        assert running.total() <= 3
                        for _ in range(chance.randrange(4)):
                            await anyio.lowlevel.checkpoint()
                        if chance.random() < 0.3:
                            raise ToolError("the author's own")
                    finally:
                        running[sub] -= 1
            except ToolError:
                pass

    async with anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(call, chance.choice("abcd"))
            if chance.random() < 0.3:
                await anyio.lowlevel.checkpoint()
    async with anyio.create_task_group() as group:
        people = People(limited, group)
        for name in ("a", "b", "c"):
            await people.come(name, name)
        assert people.running == ["a", "b", "c"]
        group.cancel_scope.cancel()


@pytest.mark.parametrize("wrong", [{"per_caller": 0}, {"at_once": 0}, {"waiting": -1}, {"wait_s": -1}])
def test_a_limit_that_lets_nobody_in_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        limit(**wrong)


async def test_a_turn_outside_a_call_is_an_authors_mistake() -> None:
    with pytest.raises(LookupError):
        async with limit().turn():
            pass


async def test_a_smoke_call_which_has_no_caller_takes_a_turn_as_any_other() -> None:
    queries = limit(per_caller=1, at_once=1, waiting=0)
    FOR_NOBODY.set(True)
    async with queries.turn():
        with pytest.raises(ToolError, match="You have 1 queries running"):
            async with queries.turn():
                pass
    async with queries.turn():
        pass
