"""Changing people's own tables: one change at a time, whole or not at all.

The change is made in a copy of the generation that callers read, and looked at there. What is changed is put on the
disk (`own.py`), and only then callers read the new generation. A caller's SQL is only ever a query, which the guard
has let through; the words around it are the server's.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import duckdb

from pegboard import ToolError
from pegboard_presto import guard
from pegboard_presto.engine import Engine, no_room
from pegboard_presto.generations import Generation, built, opened
from pegboard_presto.limits import Limits
from pegboard_presto.own import Busy, Note, OwnFile
from pegboard_presto.scan import check_scan, planned_mb
from pegboard_presto.sql import Select, read_presto
from pegboard_presto.tables import TABLES, Column, Table

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

MOMENT_S = 120
"""A table that somebody else wrote so short a time ago, in seconds, is not overwritten: whoever said yes to that
looked at another one."""

_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COLUMN = re.compile(r"\w{1,64}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a query would put into a table.

    Attributes:
        sql: the query, in the engine's SQL.
        size: bytes of its values as text.
        planned_mb: MB that it reads.
    """

    sql: str
    columns: tuple[Column, ...]
    rows: int
    size: int
    planned_mb: float


class Tables:
    """The open tables: the generation that callers read, and the one way to another."""

    def __init__(self, now: Generation, limits: Limits, kept: OwnFile | None = None) -> None:
        """Start with a generation; without `kept` nothing can be changed."""
        self.now = now
        self._limits = limits
        self._kept = kept
        self._changing = anyio.Lock()

    def close(self) -> None:
        """Close what is read."""
        self.now.end()

    async def catch_up(self) -> None:
        """Read from now on what another process of this server has written since, as one that takes over from it, or
        from which it takes over, may.

        Raises:
            ToolError: another one is writing, and does not end in time.
        """
        if self._kept is not None and self._kept.stamp() != self.now.stamp:
            async with self._one_at_a_time():
                pass

    def name(self, given: str) -> str:
        """A name that a table of people's own may have.

        Raises:
            ToolError: with what to write instead.
        """
        name = given.strip().lower()
        if name in TABLES:
            raise ToolError(f"{name} is a table of the warehouse, which nobody may change: choose another name.")
        if not _TABLE.fullmatch(name):
            raise ToolError(
                f"{given[:80]!r} cannot be a table's name: use a letter, then letters, digits and _, at most 63."
            )
        engine = self.now.engine
        if name in engine.reserved | engine.words or not _is_a_name(name):
            raise ToolError(f"{name} is a word of SQL or of the engine: choose another name.")
        return name

    def own(self, given: str) -> Note:
        """Who wrote one of people's own tables.

        Raises:
            ToolError: there is none of that name, or it is not people's.
        """
        name = given.strip().lower()
        if name in TABLES:
            raise ToolError(f"{name} is a table of the warehouse, which nobody may change.")
        if name not in self.now.notes:
            raise guard.unknown_table(given[:80], self.now.tables)
        return self.now.notes[name]

    async def measure(self, sql: str) -> Measured:
        """Run a query without writing anything: what it would put into a table.

        Raises:
            ToolError: it is refused, fails, takes too long, or would not fit.
        """
        now = self.now
        engine = now.engine
        columns: list[Column] = []
        planned = 0.0

        def counting(cursor: duckdb.DuckDBPyConnection) -> str:
            nonlocal planned
            guard.check(cursor, sql, engine.reserved, now.tables)
            planned = planned_mb(cursor, sql, engine.sizes)
            check_scan(planned, self._limits.scan_mb)
            columns.extend(_columns(cursor, sql))
            sizes = " + ".join(f"coalesce(sum(strlen(CAST(c{i} AS VARCHAR))), 0)" for i in range(len(columns)))
            names = ", ".join(f"c{i}" for i in range(len(columns)))
            return f"SELECT count(*), {sizes} FROM ({sql}) AS counted({names})"  # noqa: S608 - checked above

        [(rows, size)] = (await engine.run(counting, max_rows=1)).rows
        return Measured(sql, tuple(columns), int(rows), int(size), planned)

    def check_fits(self, measured: Measured, name: str) -> None:
        """Refuse what would be more than people's own tables may be.

        Raises:
            ToolError: with the figure and the limit.
        """
        limits, others = self._limits, [note for note in self.now.notes if note != name]
        if measured.rows > limits.own_rows:
            raise ToolError(f"The table would have more than {limits.own_rows} rows, which is what one may have.")
        if len(others) >= limits.own_tables:
            raise ToolError(f"There are {len(others)} tables of people's own already: drop one that nobody needs.")
        size_mb = (measured.size + sum(self._size(other) for other in others)) / 1e6
        if size_mb > limits.own_mb:
            raise ToolError(
                f"People's own tables would hold {size_mb:,.1f} MB together and may hold {limits.own_mb} MB: write "
                "fewer rows or columns, or drop tables that nobody needs."
            )

    async def overwrite(self, name: str, sql: str, by: str) -> tuple[int, Measured]:
        """Replace a table of people's own by a query's rows, or make it: how many it had, and what it has.

        Args:
            name: as `name` gives it.
            sql: as `read` gives it.
            by: who writes it.

        Raises:
            ToolError: nothing was changed.
        """
        async with self._one_at_a_time() as kept:
            found = self.now.notes.get(name)
            if found is not None and found.by != by and time.time() * 1000 - found.at_ms < MOMENT_S * 1000:
                raise ToolError(f"{found.by} wrote {name} a moment ago: look at it first, then ask again.")
            measured = await self.measure(sql)
            self.check_fits(measured, name)
            note = Note(name, by, int(time.time() * 1000))
            before = self.now.tables[name].rows if found else 0
            notes = [*(other for other in self.now.notes.values() if other.table != name), note]
            await self._change(kept, f'CREATE OR REPLACE TABLE "{name}" AS {sql}', notes, name)
            return before, replace(measured, rows=self.now.tables[name].rows)

    async def drop(self, names: Sequence[str]) -> list[Table]:
        """Drop tables of people's own: all, or none. They are given as they were.

        Raises:
            ToolError: one is not there any more; nothing was changed.
        """
        async with self._one_at_a_time() as kept:
            dropped = [self.now.tables[self.own(name).table] for name in dict.fromkeys(names)]
            left = self.now.notes.keys() - {table.name for table in dropped}
            notes = [note for note in self.now.notes.values() if note.table in left]
            await self._change(kept, "; ".join(f'DROP TABLE "{table.name}"' for table in dropped), notes)
            return dropped

    async def _change(self, kept: OwnFile, statement: str, notes: Sequence[Note], written: str = "") -> None:
        with tempfile.TemporaryDirectory(prefix="presto-") as folder:
            path = Path(folder, "next.duckdb")
            await _in_thread(lambda: self.now.copy_to(path))
            copy = await _in_thread(lambda: Engine(path, self._limits, writable=True))
            try:
                await copy.run(lambda _: statement, max_rows=1)
            finally:
                copy.close()
            # From here on nobody's leaving stops it: it is done, and said to be done, or not done.
            with anyio.CancelScope(shield=True):
                await _in_thread(lambda: self._keep(kept, path, notes, written))

    def _keep(self, kept: OwnFile, path: Path, notes: Sequence[Note], written: str) -> None:
        following = opened(path, self._limits, notes)
        try:
            size = sum(sum(following.engine.sizes.get(note.table, {}).values()) for note in notes)
            # Other rows than were counted before: the query gives others each time.
            rows = following.tables[written].rows if written else 0
            if written and (rows > self._limits.own_rows or size > _most_bytes(self._limits)):
                raise ToolError("The query gave more rows than it did a moment ago: nothing was changed.")
            kept.write(path, notes)
        except BaseException:
            following.end()
            raise
        before, self.now = self.now, replace(following, stamp=kept.stamp())
        before.end()

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[OwnFile]:
        """Hold this process's turn and that among processes, with the newest tables.

        Raises:
            ToolError: nothing can be changed here, or not now.
        """
        if self._kept is None:
            raise ToolError("This warehouse cannot be changed.")
        kept = self._kept
        async with self._changing:
            lock = kept.locked()
            await _in_thread(lock.__enter__)
            try:
                if kept.stamp() != self.now.stamp:
                    with tempfile.TemporaryDirectory(prefix="presto-") as folder:
                        fresh = await anyio.to_thread.run_sync(built, self._limits, kept, Path(folder))
                    before, self.now = self.now, fresh
                    before.end()
                yield kept
            finally:
                lock.__exit__(None, None, None)

    def _size(self, name: str) -> int:
        return sum(self.now.engine.sizes.get(name, {}).values())


def read(sql: str, limits: Limits) -> str:
    """The engine's SQL for a query whose rows are to be written.

    Raises:
        ToolError: it is no query, or cannot be read.
    """
    found = read_presto(sql, limits.own_rows)
    if not isinstance(found, Select):
        raise ToolError("Only a query's rows can be written: SELECT, WITH, UNION or VALUES.")
    return found.sql


def _columns(cursor: duckdb.DuckDBPyConnection, sql: str) -> Iterable[Column]:
    """The columns that a query gives, which must have names and types that a table can keep."""
    seen: set[str] = set()
    for name, kind, *_ in cursor.execute(f"DESCRIBE {sql}").fetchall():
        if not _COLUMN.fullmatch(name) or name.lower() in seen:
            raise ToolError(f"Column {name[:80]!r} needs a name of its own, of letters, digits and _: write AS name.")
        if "WITH TIME ZONE" in kind:
            raise ToolError(f"Column {name!r} is a time with a zone: cast it to timestamp. All times here are UTC.")
        seen.add(name.lower())
        yield Column(name, kind, "")


def _is_a_name(name: str) -> bool:
    try:
        return isinstance(read_presto(f"SELECT {name}.x FROM {name}", 1), Select)  # noqa: S608 - only read
    except ToolError:
        return False


def _most_bytes(limits: Limits) -> float:
    """Some more than is allowed: numbers count here by the width of their type."""
    return limits.own_mb * 1e6 * 2


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run what reads and writes files, and say what a full disk means."""
    try:
        return await anyio.to_thread.run_sync(work)
    except Busy as error:
        raise ToolError("Somebody else is changing tables: ask again in a moment.") from error
    except (OSError, duckdb.IOException) as error:
        logger.error("the tables cannot be written: %s", error)
        raise no_room() from error
