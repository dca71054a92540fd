"""One database, read-only but for the copy that a change is made in, and one statement on it within its limits."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import duckdb

from pegboard import ToolError
from pegboard_presto.limits import Limits
from pegboard_presto.scan import column_sizes

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Configuration = dict[str, str | bool | int | float | list[str]]

STUBBORN_S = 10.0
"""Seconds after which a statement that was interrupted and still runs is given up, and the process with it."""

END_WITHIN_S = 8
"""Seconds in which a process that ends because of its engine may still finish and record its other calls."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a statement gave: at most the rows that were asked for."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]
    elapsed_ms: float


def configuration(limits: Limits, *, writable: bool = False) -> Configuration:
    """The engine's settings. They shut the outside out, and the last one shuts the settings."""
    return {
        "access_mode": "read_write" if writable else "read_only",
        "enable_external_access": False,  # no files, no network, no ATTACH, COPY or INSTALL
        "python_enable_replacements": False,  # a table's name never reaches a variable of this process
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        "temp_directory": "",
        "memory_limit": f"{limits.memory_mb}MiB",
        "threads": limits.threads,
        "integer_division": True,  # as in Presto: 7 / 2 is 3
        "lock_configuration": True,
    }


_BROKEN = "The engine failed on this query and starts again. Do not repeat it unchanged."


class Engine:
    """A database file opened once; every statement gets a cursor of its own."""

    def __init__(
        self, file: Path, limits: Limits, on_broken: Callable[[], None] | None = None, *, writable: bool = False
    ) -> None:
        """Open `file`.

        Args:
            file: the database; it may be unlinked as soon as this returns.
            limits: of memory and time.
            on_broken: called when the engine declares itself unusable; ends the process unless given, so that its
                supervisor starts a sound one.
            writable: the file is a copy of its own, in which a change is made (`changing.py`).

        Raises:
            duckdb.Error: the file is no database.
        """
        self.limits = limits
        self._writable = writable
        self._database = duckdb.connect(file, config=configuration(limits, writable=writable))
        self._on_broken = on_broken or _end_process
        self._running = 0
        self._closing = False
        views = self._database.execute(
            "SELECT lower(view_name) FROM duckdb_views() WHERE schema_name <> 'information_schema'"
        ).fetchall()
        self.reserved = frozenset(name for (name,) in views)
        """Names that the engine resolves by itself, without a schema."""
        words = self._database.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
        ).fetchall()
        self.words = frozenset(word for (word,) in words)
        """Words that cannot be a name where they are not quoted."""
        self.sizes = column_sizes(self._database)

    def close(self) -> None:
        """Close the database; a statement that still runs keeps it open until it ends.

        The engine would wait for the statement, on the very thread that interrupts it.
        """
        self._closing = True
        if not self._running:
            with suppress(duckdb.Error):
                self._database.close()

    def look(self, ask: Callable[[duckdb.DuckDBPyConnection], _T]) -> _T:
        """Ask the database something of the server's own, at once."""
        return ask(self._database)

    async def run(
        self,
        prepare: Callable[[duckdb.DuckDBPyConnection], str],
        parameters: Mapping[str, Any] | Sequence[Any] = (),
        *,
        max_rows: int,
        seconds: float | None = None,
    ) -> Fetched:
        """Run the statement that `prepare` gives, in a worker thread, and fetch at most `max_rows` rows.

        A time-out and a cancelled caller interrupt the statement, and the wait for it to stop is part of the call:
        nothing runs on unseen. One that does not stop makes the engine unusable, as a failure inside it does.

        Args:
            prepare: translates and checks; it is given the cursor, and its time counts.
            parameters: bound to the statement.
            max_rows: rows to fetch.
            seconds: how long it may run; what the limits say unless given.

        Raises:
            ToolError: the statement was refused, failed, or took too long; the text is for the caller.
        """
        cursor = self._database.cursor()
        seconds = self.limits.seconds if seconds is None else seconds
        work = _Work(cursor, prepare, parameters, max_rows)
        self._running += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(work.watch, seconds)
                await work.run()
                group.cancel_scope.cancel()
        finally:
            if work.stubborn:
                logger.critical("a statement did not stop within %g s of being interrupted", STUBBORN_S)
                self._on_broken()
            else:
                cursor.close()
                self._running -= 1
                if self._closing:
                    self.close()
        # Where the engine stopped before this task was told, the interrupt is not the query's failure.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if work.fetched is not None:
            return work.fetched
        raise self._explain(work, seconds)

    def _explain(self, work: _Work, seconds: float) -> BaseException:
        error = work.error
        match error:
            case None if work.stubborn:
                return ToolError(_BROKEN)
            case duckdb.InterruptException() if work.timed_out:
                return ToolError(
                    f"The query was stopped after {seconds:g} s, which is what one query may run. "
                    "Filter with WHERE, aggregate before you join, and give every join a condition."
                )
            case duckdb.OutOfMemoryException() | MemoryError():
                return ToolError(
                    f"The query needs more memory than the {self.limits.memory_mb} MB that queries share. "
                    "Aggregate, select fewer columns, or add a LIMIT to an ORDER BY."
                )
            case duckdb.InternalException() | duckdb.FatalException():
                logger.critical("the engine broke and is not usable any more: %s", error)
                self._on_broken()
                return ToolError(_BROKEN)
            case duckdb.IOException() if self._writable:
                logger.error("the copy of the tables cannot be written: %s", error)
                return no_room()
            case duckdb.IOException() | duckdb.PermissionException():
                logger.error("the engine was asked for something outside: %s", error)
                return ToolError("The engine does not offer this: it reads the listed tables and nothing else.")
            case duckdb.Error():
                return ToolError(_for_caller(str(error)))
        return error or RuntimeError("a statement ended without rows and without an error")


class _Work:
    """One statement on its way through a worker thread."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        prepare: Callable[[duckdb.DuckDBPyConnection], str],
        parameters: Mapping[str, Any] | Sequence[Any],
        max_rows: int,
    ) -> None:
        self.fetched: Fetched | None = None
        self.error: Exception | None = None
        self.timed_out = False
        self.stubborn = False
        self._waiting = anyio.CancelScope(shield=True)
        self._cursor = cursor
        self._prepare = prepare
        self._parameters = parameters
        self._max_rows = max_rows
        self._ended = threading.Event()

    async def run(self) -> None:
        """Run to the end, whatever happens to the caller; `watch` is what stops it."""
        try:
            with self._waiting:
                await anyio.to_thread.run_sync(self._execute, abandon_on_cancel=True)
        finally:
            self._ended.set()  # also where no thread could be started

    async def watch(self, seconds: float) -> None:
        """Interrupt the statement when its time is over or the caller has gone."""
        try:
            await anyio.sleep(seconds)
            self.timed_out = True
        finally:
            with anyio.CancelScope(shield=True):
                await self._stop()

    async def _stop(self) -> None:
        given_up_at = anyio.current_time() + STUBBORN_S
        # More than once: an interrupt that comes before the statement has begun is lost.
        while not self._ended.is_set():
            if anyio.current_time() > given_up_at:
                self.stubborn = True
                self._waiting.cancel()
                return
            self.interrupt()
            await anyio.sleep(0.02)

    def interrupt(self) -> None:
        """Tell the statement to stop; one that has not begun does not hear of it."""
        with suppress(duckdb.Error):
            self._cursor.interrupt()

    def _execute(self) -> None:
        started = time.perf_counter()
        _UNDER_WAY.add(self)
        try:
            self._cursor.execute(self._prepare(self._cursor), self._parameters or None)
            columns = [(name, str(kind)) for name, kind, *_ in self._cursor.description or ()]
            _refuse_zones(columns)
            rows = self._cursor.fetchmany(self._max_rows)
            self.fetched = Fetched(columns, rows, (time.perf_counter() - started) * 1000)
        except Exception as error:  # handed to the caller's task, which explains it
            self.error = error
        finally:
            _UNDER_WAY.discard(self)
            self._ended.set()


_UNDER_WAY: set[_Work] = set()
"""Statements that a thread of this process is at."""


def stop_all() -> None:
    """Have every statement of this process stop: the process ends, and waits for its threads.

    The event loop, which interrupts them otherwise, may be gone before they heard it. This returns at once.
    """
    threading.Thread(target=_interrupt_all, daemon=True).start()


def _interrupt_all() -> None:
    give_up_at = time.monotonic() + STUBBORN_S
    while _UNDER_WAY and time.monotonic() < give_up_at:
        for work in list(_UNDER_WAY):
            work.interrupt()
        time.sleep(0.02)


def no_room() -> ToolError:
    """What a caller is told whose change did not fit on the disk."""
    return ToolError(
        "The server's disk takes no more: nothing was changed. Tell its owner, or drop tables that nobody needs."
    )


def _refuse_zones(columns: list[tuple[str, str]]) -> None:
    for name, kind in columns:
        if "WITH TIME ZONE" in kind:
            raise ToolError(f"Column {name!r} is a time with a zone: cast it to timestamp. All times here are UTC.")


def _for_caller(message: str) -> str:
    """The engine's message without the statement's text and without advice that does not hold here."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    kept = lines[:1] + [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))]
    return " ".join(kept)[:600] or "The engine could not run this query."


def _end_process() -> None:
    """End in order, and by force where a statement that cannot be stopped holds that up."""
    os.kill(os.getpid(), signal.SIGTERM)
    faulthandler.dump_traceback_later(END_WITHIN_S, exit=True)
