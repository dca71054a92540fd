"""The one door to SQLAlchemy's engine: connections, transactions, and what SQLite alone needs.

A transaction means the same on both databases: a read sees one state; writes follow one another, also
those of other hubs.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from pegboard_hub.storage import postgresql as server
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import DATABASE_ERRORS, DATABASE_SECONDS, DATABASE_WAIT

log = logging.getLogger(__name__)

_WRITES = "pegboard_writes"

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # In WAL mode NORMAL survives the death of the process; only power loss can take the last transactions.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
)


MOST_VARIABLES = 1000
"""Of one statement."""

_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
"""Primary result codes of SQLite that tell of the disk, not of the statement (https://www.sqlite.org/rescode.html)."""


TRY_AGAIN_S = 10.0
"""Seconds after a failed write in which another tells whether the disk has room again: whoever had something to write
tries more often than that. A small trial may find room where no delivery does."""

_READ = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""One snapshot for all statements (https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ)."""

_WRITE = {"isolation_level": "READ COMMITTED"}
"""Each statement sees what was committed before it: with writers one after another, everything they did."""


class Database:
    """The hub's database: SQLite embedded, or the PostgreSQL of an URL.

    Attributes:
        file: the embedded database's file; None of any other.
        shown: what it is called to people: the file, or the server's address without who signs in.
    """

    def __init__(self, url: str, meter: HubMeter | None = None, name: str = "pegboard hub") -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: SQLAlchemy's of an SQLite file, or libpq's of a PostgreSQL.
            meter: counts transactions.
            name: of this process, for whoever looks at the server's sessions.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        self.embedded = url.startswith("sqlite")
        self.engine = _engine(url) if self.embedded else server.engine_of(url, name)
        self._kept = None if self.embedded else server.engine_of(url, name, pooled=False)
        self._meter = meter or HubMeter()
        file = self.engine.url.database if self.embedded else None
        self.file = Path(file) if file else None
        self.shown = str(self.file or "SQLite") if self.embedded else server.address_of(url)
        # One writer at a time: waiting here is fair, waiting in busy_timeout is polling, and waiting at a server
        # would take a connection each.
        self._writer = asyncio.Lock()
        self._trouble = ""
        self._failed_at = 0.0

    @classmethod
    def at(cls, path: Path, meter: HubMeter | None = None) -> Database:
        """The embedded database in file `path`, created when it is opened first."""
        return cls(f"sqlite+aiosqlite:///{path}", meter)

    @property
    def bytes(self) -> int:
        """Size of the embedded database with its write-ahead log; 0 of any other."""
        parts = (self.file, self.file.with_name(f"{self.file.name}-wal")) if self.file else ()
        return sum(part.stat().st_size for part in parts if part.exists())

    @property
    def refuses_writes(self) -> bool:
        """Whether the last write failed for want of the disk, or of the server."""
        return bool(self._trouble)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see one state.

        Raises:
            StorageUnavailable: the database cannot be opened, as on a disk that was full before it was, or a server
                that is away.
        """
        try:
            with self._meter.timed(DATABASE_SECONDS, "read"):
                async with self.engine.connect() as plain:
                    connection = plain if self.embedded else await plain.execution_options(**_READ)
                    async with connection.begin():
                        yield connection
        except (DBAPIError, NoConnection) as error:
            raise self._failed(error) from error

    @asynccontextmanager
    async def write(self, *, flushed: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back by an exception.

        It sees everything that was committed before, also by other hubs, and nobody else writes until it ends.

        Args:
            flushed: whether it must also outlive a loss of power once it is committed, and with it all before it; on
                SQLite that waits for the disk. A server flushes as its own `synchronous_commit` says.

        Raises:
            StorageUnavailable: the disk is full or does not take writes, or the server is away. Nothing was changed;
                only where the connection broke at the very end, nobody can tell.
        """
        asked = time.perf_counter()
        async with self._writer:
            try:
                async with self.engine.connect() as plain, self._flushing(plain, flushed and self.embedded):
                    connection = await plain.execution_options(**{_WRITES: True}, **self._isolation)
                    before = await self._changes(connection)
                    with ExitStack() as until_committed:
                        async with connection.begin():
                            if not self.embedded:
                                await server.take_turn(connection)
                            self._meter.observe(DATABASE_WAIT, time.perf_counter() - asked)
                            until_committed.enter_context(self._meter.timed(DATABASE_SECONDS, "write"))
                            yield connection
                            changed = await self._has_changed(connection, before)
            except IntegrityError:
                raise
            except (DBAPIError, NoConnection) as error:
                told = self._failed(error)
                if isinstance(told, StorageUnavailable):
                    self._note(str(told))
                raise told from error
            # One that had nothing to write says nothing of the disk.
            if changed:
                self._note("")

    async def check_writes(self) -> None:
        """Tell whether the last write failed for want of the disk; one that is long ago is tried again.

        Raises:
            StorageUnavailable: it did.
        """
        if not self._trouble:
            return
        if time.monotonic() - self._failed_at < TRY_AGAIN_S:
            raise StorageUnavailable(self._trouble)
        async with self.write() as connection:
            if self.embedded:
                version = await connection.scalar(text("PRAGMA user_version"))
                await connection.exec_driver_sql(f"PRAGMA user_version={int(version or 0)}")
            else:
                await server.write_the_same(connection)
        self._note("")

    @staticmethod
    @asynccontextmanager
    async def _flushing(connection: AsyncConnection, flushed: bool) -> AsyncIterator[None]:
        """Have what is committed meanwhile flushed to the disk (https://www.sqlite.org/pragma.html#pragma_synchronous)."""
        if not flushed:
            yield
            return
        await _pragma(connection, "synchronous=FULL")
        try:
            yield
        finally:
            await _pragma(connection, "synchronous=NORMAL")

    @property
    def _isolation(self) -> dict[str, Any]:
        return {} if self.embedded else _WRITE

    async def _changes(self, connection: AsyncConnection) -> int:
        """Rows that the connection has changed since it was opened; counted only while the disk takes no writes."""
        if not self._trouble or not self.embedded:
            return -1
        driver: Any = (await connection.get_raw_connection()).driver_connection
        return int(driver.total_changes)

    async def _has_changed(self, connection: AsyncConnection, before: int) -> bool:
        if not self._trouble:
            return False  # nothing to take back
        if self.embedded:
            return await self._changes(connection) != before
        return await server.wrote(connection)

    def _failed(self, error: DBAPIError | NoConnection) -> Exception:
        told = _told(error, self.embedded)
        disk = "disk" if self.embedded else "server"
        self._meter.count(DATABASE_ERRORS, disk if isinstance(told, StorageUnavailable) else "other")
        return told

    def _note(self, trouble: str) -> None:
        """Log it once when writes begin to fail, and once when they work again."""
        if trouble and not self._trouble:
            log.error("%s; what only reads goes on", trouble)
        if self._trouble and not trouble:
            log.info("the database takes writes again")
        self._trouble = trouble
        self._failed_at = time.monotonic()

    @asynccontextmanager
    async def migration(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction that may rebuild tables others refer to; references are checked before it is committed.

        The order is SQLite's own (https://www.sqlite.org/lang_altertable.html#otheralter): a table that is dropped
        with foreign keys on takes the rows along that refer to it. At a server it waits for its turn without limit:
        of several hubs that start at once one migrates, which may take long, and the others wait for it.

        Raises:
            IntegrityError: a reference leads nowhere; nothing was changed.
            StorageUnavailable: the server is away.
        """
        try:
            async with self._writer, self.engine.connect() as plain:
                if self.embedded:
                    await _pragma(plain, "foreign_keys=OFF")
                try:
                    connection = await plain.execution_options(**{_WRITES: True}, **self._isolation)
                    async with connection.begin():
                        if not self.embedded:
                            await server.take_turn(connection, patient=True)
                        yield connection
                        if self.embedded:
                            await _check_references(connection)
                finally:
                    if self.embedded:
                        await _pragma(plain, "foreign_keys=ON")
        except NoConnection as error:
            raise self._failed(error) from error

    async def kept_connection(self) -> AsyncConnection:
        """A connection beside the pool, without transactions, for locks that last as long as it does.

        Raises:
            SQLAlchemyError: the server is away.
        """
        if self._kept is None:
            raise NotImplementedError("the embedded database has one hub, and no locks between hubs")
        return await self._kept.execution_options(isolation_level="AUTOCOMMIT").connect()

    async def leader(self) -> str:
        """The hub that leads, as it calls itself; empty where none does at this moment, or there is but one."""
        if self.embedded:
            return ""
        async with self.read() as connection:
            return await server.leader(connection)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _told(error: DBAPIError | NoConnection, embedded: bool) -> Exception:
    """What to raise for an error of the driver: `StorageUnavailable` where disk or server are its reason."""
    if isinstance(error, NoConnection):
        words = f"all {server.POOL_VARIABLE} connections to the database have been in use for too long"
        return StorageUnavailable(words)
    if not embedded:
        trouble = server.trouble_of(error.orig)
        return StorageUnavailable(trouble) if trouble else error
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in _DISK:
        return error
    return StorageUnavailable(f"the database's disk does not take it: {error.orig}")


async def _pragma(connection: AsyncConnection, setting: str) -> None:
    """Set a pragma that SQLite takes outside transactions alone, where SQLAlchemy would begin one."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute(f"PRAGMA {setting}")


async def _check_references(connection: AsyncConnection) -> None:
    broken: Any = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).first()
    if broken is not None:
        words = f"a row of {broken[0]} refers to one of {broken[2]} that is not there"
        raise IntegrityError(words, None, ValueError(words))


def batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """The values in parts that one statement can take: SQLite's limit is 32,766 variables, PostgreSQL's 65,535."""
    return (values[start : start + MOST_VARIABLES] for start in range(0, len(values), MOST_VARIABLES))


async def insert_new(connection: AsyncConnection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet, and leave the others alone. All have the same columns."""
    if batch := _unique(table, rows):
        await connection.execute(_insert_or_leave(connection, table), batch)


async def insert_and_tell_new(
    connection: AsyncConnection, table: Table, rows: Iterable[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    """`insert_new` that also gives the primary keys of the rows that were new."""
    batch = _unique(table, rows)
    if not batch:
        return []
    statement = _insert_or_leave(connection, table).returning(*table.primary_key.columns)
    return [tuple(row) for row in await connection.execute(statement, batch)]


async def put(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make each row what its primary key leads to, whether there was one or not. All have the same columns."""
    if not rows:
        return
    statement = _insert(connection, table)
    key = [column.name for column in table.primary_key.columns]
    others = {name: statement.excluded[name] for name in rows[0] if name not in key}
    await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), [*map(dict, rows)])


async def add_up(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add each row's figures to the row with its primary key, which is made where it is not there yet."""
    if not rows:
        return
    statement = _insert(connection, table)
    key = [column.name for column in table.primary_key.columns]
    figures = [column.name for column in table.columns if column.name not in key]
    added = {name: table.c[name] + statement.excluded[name] for name in figures}
    await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=added), [*map(dict, rows)])


def _insert_or_leave(connection: AsyncConnection, table: Table) -> Any:
    return _insert(connection, table).on_conflict_do_nothing()


def _insert(connection: AsyncConnection, table: Table) -> Any:
    # Both dialects spell conflicts alike; SQLAlchemy keeps the two apart all the same.
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def _unique(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those that repeat an earlier one's primary key."""
    key = [column.name for column in table.primary_key.columns]
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        first.setdefault(tuple(row[name] for name in key), dict(row))
    return list(first.values())


def _engine(url: str) -> AsyncEngine:
    # An error's text must not bring what a statement was given: it ends in a log.
    engine = create_async_engine(url, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transaction handling starts transactions late and commits before DDL: switch it off.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the write lock at once: upgrading a read transaction can fail without waiting.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
