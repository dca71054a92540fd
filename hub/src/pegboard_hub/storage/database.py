"""The one door to SQLAlchemy's engine: connections, transactions, and what SQLite alone needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

_WRITES = "pegboard_writes"

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # In WAL mode NORMAL survives the death of the process; only power loss can take the last transactions.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
)


class Database:
    """The hub's database: SQLite embedded, PostgreSQL by another URL."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        # SQLite has one writer at a time: waiting here is fair, waiting in busy_timeout is polling.
        self._writer = asyncio.Lock()

    @classmethod
    def at(cls, path: Path) -> Database:
        """The embedded database in file `path`, created when it is opened first."""
        return cls(f"sqlite+aiosqlite:///{path}")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements all see one state."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back by an exception."""
        async with self._writer, self.engine.connect() as plain:
            connection = await plain.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


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


def _insert_or_leave(connection: AsyncConnection, table: Table) -> Any:
    # Both dialects spell it alike; SQLAlchemy keeps the two apart all the same.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


def _unique(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those that repeat an earlier one's primary key."""
    key = [column.name for column in table.primary_key.columns]
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        first.setdefault(tuple(row[name] for name in key), dict(row))
    return list(first.values())


def _engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
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
