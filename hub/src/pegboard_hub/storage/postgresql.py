# ruff: noqa: S608 - the texts put together here are this file's own
"""What PostgreSQL alone needs (the one door to psycopg): its connections, its errors in words, and its locks.

Writes of all hubs of a database follow one another, by an advisory lock that a transaction takes first and that ends
with it. So they mean the same as on SQLite, which has one writer at a time, and no subject needs locks of its own
(docs/decisions/0025).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, LiteralString
from zlib import crc32

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.database_url import VARIABLE, in_use
from pegboard_hub.storage.errors import DatabaseUnreadable

NAME = "postgresql"

OLDEST = 14
"""The oldest major version that is let in; PostgreSQL ends each five years after its first."""

POOL_VARIABLE = "PEGBOARD_DATABASE_POOL"
POOL_SIZE = 10
"""Connections that a hub keeps open at most, beside one for its locks."""

MOST_CONNECTIONS = 200

POOL_TIMEOUT_S = 10.0
"""How long a request waits for one of them, in seconds."""

CONNECT_TIMEOUT_S = 5

SESSION = {
    # Nobody waits without end for a hub that hangs in the middle of a transaction.
    "lock_timeout": "15s",
    "idle_in_transaction_session_timeout": "60s",
    # A hub whose machine is gone says nothing any more: its locks are free after some seconds.
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}
"""What every session is opened with; what the URL's own `options` say comes later, and counts."""

KEPT_ALIVE = {"keepalives_idle": 3, "keepalives_interval": 1, "keepalives_count": 3, "tcp_user_timeout": 8000}
"""The same from the hub's side (https://www.postgresql.org/docs/current/libpq-connect.html)."""

ROWS_AT_ONCE = 5000

_SPACE = 0x50454742
"""The first half of every advisory lock of ours: other programs may use the database's too."""

_WRITER = 1
_LEADER = 2
_NAMED = 0x40000000
_LEADS = (
    f"locktype = 'advisory' AND granted AND classid = {_SPACE} AND objid = {_LEADER} "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

CREATE = "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"

_MENDS = (
    ("53100", "its disk is full: make room on it"),
    ("53300", "it has no connection left: raise its max_connections, or lower PEGBOARD_DATABASE_POOL"),
    ("53", "it is out of resources; see its log"),
    ("57P", "it is being stopped or started; hubs go on by themselves once it runs"),
    ("55P03", "another hub has been writing for too long; see the hubs' logs"),
    ("57014", "a statement took too long and was ended; see its log"),
    ("25P03", "a transaction took too long and was ended; see the hubs' logs"),
    (
        "25006",
        f"it takes no writes: is it a standby? Name the primary in {VARIABLE} (target_session_attrs=read-write)",
    ),
    ("28", f"it does not let this user in: mend user and password in {VARIABLE}, or its pg_hba.conf"),
    ("3D000", f"there is no such database: create it ({CREATE}), or mend the name in {VARIABLE}"),
    ("42501", "the user lacks a right there: let it own its database"),
    ("58", "it cannot use its disk; see its log"),
    ("08", f"the connection to it failed: is it up, and is {VARIABLE} right?"),
)
"""What mends an error, by the beginning of its code (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_NUMBERS = re.compile(r"[0-9,]*")
_UNREACHABLE = f"is it up, and are address, user and password in {VARIABLE} right?"

LEADER: LiteralString = (
    f"SELECT application_name FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE {_LEADS})"
)
"""What the session that leads calls itself."""


class _NoNul:
    """PostgreSQL's text holds every character but NUL: it is kept, and looked for, as U+FFFD.

    What comes from outside may have one anywhere, and must neither fail a request nor hold up a delivery.
    """

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))  # type: ignore[misc]


class _Text(_NoNul, StrDumper):
    pass


class _BinaryText(_NoNul, StrBinaryDumper):
    pass


def address_of(url: str) -> str:
    """What may be shown of a URL: host, port and database, without who signs in and how.

    Raises:
        ConfigurationError: libpq does not understand it; the message does not repeat it.
    """
    found = _parsed(url)
    hosts, ports = str(found.get("host", "")).split(","), str(found.get("port", "")).split(",")
    places = [
        f"{host}:{port}" if port else host for host, port in zip(hosts, _padded(ports, len(hosts)), strict=True)
    ]
    return f"postgresql://{','.join(places)}/{found.get('dbname', found.get('user', ''))}"


def _padded(ports: list[str], count: int) -> list[str]:
    return ports if len(ports) == count else [ports[0]] * count


def _parsed(url: str) -> dict[str, Any]:
    try:
        found = dict(conninfo_to_dict(url))
        # A password with a slash or an at-sign in it would end up where names are, and be shown.
        named = (found.get("host", ""), found.get("dbname", ""))
        if not any("@" in str(name) for name in named) and _NUMBERS.fullmatch(str(found.get("port", ""))):
            return found
    except psycopg.ProgrammingError:
        pass  # what it says may quote the password
    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE, with what is special in a password as %XX"
    raise ConfigurationError(in_use(VARIABLE), [f"libpq cannot read it; it looks like {example}"])


def pool_size() -> int:
    """How many connections a hub may open, as the environment says.

    Raises:
        ConfigurationError: it is no such number.
    """
    said = os.environ.get(POOL_VARIABLE) or str(POOL_SIZE)
    if not (said.isascii() and said.isdigit() and 1 <= int(said[:9]) <= MOST_CONNECTIONS):
        raise ConfigurationError(POOL_VARIABLE, [f"{said[:20]!r} is not a number from 1 to {MOST_CONNECTIONS}"])
    return int(said)


def engine_of(url: str, name: str = "pegboard hub", *, pooled: bool = True) -> AsyncEngine:
    """An engine whose connections libpq makes of the URL as it is; none is opened yet.

    Args:
        url: as libpq reads it, so with everything that libpq knows (several hosts, TLS, a file of passwords).
        name: what its sessions are called in `pg_stat_activity`.
        pooled: whether connections are used again; others end when they are closed, with every lock they have.

    Raises:
        ConfigurationError: libpq does not understand the URL.
    """
    arguments = connect_arguments(url, name)

    async def connect(*_: Any, **more: Any) -> psycopg.AsyncConnection[Any]:
        context = more.get("context")
        connection = await psycopg.AsyncConnection.connect(url, context=context, **arguments)
        connection.adapters.register_dumper(str, _BinaryText)
        connection.adapters.register_dumper(str, _Text)
        return connection

    # An error's text must not bring what a statement was given: it ends in a log.
    common: dict[str, Any] = {"async_creator": connect, "hide_parameters": True}
    if not pooled:
        return create_async_engine("postgresql+psycopg://", poolclass=NullPool, **common)
    return create_async_engine(
        "postgresql+psycopg://",
        pool_size=pool_size(),
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        # A database that was restarted fails no request.
        pool_pre_ping=True,
        **common,
    )


def connect_arguments(url: str, name: str) -> dict[str, Any]:
    """What connections are opened with beside the URL, where that does not say it itself.

    Raises:
        ConfigurationError: libpq does not understand the URL.
    """
    said = _parsed(url)
    own = {"application_name": name, "client_encoding": "utf8", "connect_timeout": CONNECT_TIMEOUT_S, **KEPT_ALIVE}
    chosen: dict[str, Any] = {key: value for key, value in own.items() if key not in said}
    settings = " ".join(f"-c {key}={value}" for key, value in SESSION.items())
    return {**chosen, "options": f"{settings} {said.get('options', '')}".strip()}


def trouble_of(original: BaseException | None) -> str:
    """What is wrong with the database and what mends it; empty where the statement is at fault."""
    code = getattr(original, "sqlstate", None) or ""
    said = (str(original).strip().splitlines() or [""])[0]
    mend = next((in_use(words) for start, words in _MENDS if code.startswith(start)), "")
    if mend:
        return f"the database cannot be used ({said}): {mend}"
    if not code and isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
        return f"the database cannot be used ({said}): {in_use(_UNREACHABLE)}"
    return ""


async def take_turn(connection: AsyncConnection, *, patient: bool = False) -> None:
    """Wait for the writers before this transaction, of every hub; its end is the next one's turn.

    Args:
        connection: in a transaction that has read nothing yet.
        patient: wait however long it takes, as for a migration.
    """
    if patient:
        await connection.execute(text("SET LOCAL lock_timeout = 0"))
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_SPACE}, {_WRITER})"))


async def wrote(connection: AsyncConnection) -> bool:
    """Whether this transaction has changed anything."""
    return bool(await connection.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")))


async def write_the_same(connection: AsyncConnection) -> None:
    """Write something that changes nothing."""
    await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


async def check_usable(connection: AsyncConnection) -> None:
    """See that this is a database that means what SQLite means.

    Raises:
        DatabaseUnreadable: it is of a version that is too old, or compares or keeps text in another way.
    """
    _check(*(await connection.execute(text(_USABLE))).one())


_USABLE = (
    "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), "
    "'B' < 'a' AND 'z' < 'é' AND 'a-c' < 'ab'"
)


def _check(version: int, encoding: str, by_code_points: bool) -> None:
    if version < OLDEST:
        raise DatabaseUnreadable(f"the database is PostgreSQL {version}, and Pegboard wants {OLDEST} or newer")
    if encoding != "UTF8" or not by_code_points:
        order = "by code points" if by_code_points else "by a language"
        # A language's order changes with the system's library, and indexes made with the old one are wrong then.
        raise DatabaseUnreadable(
            f"the database has the encoding {encoding} and orders text {order}; Pegboard wants UTF8 and the order "
            f"of code points, as SQLite has it. Create one that has: {CREATE}"
        )


async def holds_or_takes_lead(connection: AsyncConnection) -> bool:
    """Lead if no other session does, for as long as the connection lives; tell whether this one does."""
    query = (
        f"SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE pid = pg_backend_pid() AND {_LEADS}) "
        f"THEN true ELSE pg_try_advisory_lock({_SPACE}, {_LEADER}) END"
    )
    return bool(await connection.scalar(text(query)))


async def leader(connection: AsyncConnection) -> str:
    """What the session that leads calls itself; empty for a moment in which none does."""
    return str(await connection.scalar(text(LEADER)) or "")


async def try_named(connection: AsyncConnection, name: str) -> bool:
    """Take the lock of that name, if no other session has it."""
    return bool(await connection.scalar(text(f"SELECT pg_try_advisory_lock({_SPACE}, {_number(name)})")))


async def release_named(connection: AsyncConnection, name: str) -> None:
    """Give the lock of that name back."""
    await connection.execute(text(f"SELECT pg_advisory_unlock({_SPACE}, {_number(name)})"))


def _number(name: str) -> int:
    """A name as the second half of a lock. Two names with one number wait for each other, and that is all."""
    return _NAMED | crc32(name.encode()) >> 2


@dataclass(frozen=True, slots=True)
class Seen:
    """What a database at a server is like, from outside.

    Attributes:
        version: of the server.
        revision: of the schema; empty where there is none yet.
        bytes: its size.
        leader: what the hub that leads calls itself; empty where none does.
        hubs: what the hubs call themselves that are connected.
        connections: of everybody, to the server.
        most: connections that it allows.
    """

    version: str
    revision: str
    bytes: int
    leader: str
    hubs: tuple[str, ...]
    connections: int
    most: int


def see(url: str) -> Seen:
    """Look at a database without a hub. Nothing is changed.

    Raises:
        ConfigurationError: libpq does not understand the URL.
        DatabaseUnreadable: it cannot be reached, or is none that Pegboard can use; the message says what mends it.
    """
    arguments = connect_arguments(url, "pegboard doctor")
    try:
        with psycopg.connect(url, autocommit=True, **arguments) as connection:
            _check(*_one(connection, _USABLE))
            known = _one(connection, "SELECT to_regclass('alembic_version') IS NOT NULL")[0]
            [hubs] = _one(connection, _HUBS)
            leading = connection.execute(LEADER).fetchone()
            version, size, most, now = _one(connection, _SERVER)
            revision = _one(connection, "SELECT max(version_num) FROM alembic_version")[0] if known else None
    except psycopg.Error as error:
        raise DatabaseUnreadable(
            trouble_of(error) or f"the database cannot be used: {type(error).__name__}"
        ) from None
    return Seen(version, revision or "", size, leading[0] if leading else "", tuple(hubs), now, most)


class Snapshot:
    """One state of a database, read row by row."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._number = count()

    def execute(self, query: LiteralString) -> Iterator[tuple[Any, ...]]:
        """The rows of a query; the server keeps those that were not asked for yet."""
        with self._connection.cursor(name=f"rows_{next(self._number)}") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            yield from cursor.execute(query)


@contextmanager
def open_snapshot(url: str) -> Iterator[Snapshot]:
    """One state of a database, beside running hubs. Nothing is changed.

    Raises:
        ConfigurationError: libpq does not understand the URL.
        DatabaseUnreadable: it cannot be read.
    """
    try:
        with psycopg.connect(url, **connect_arguments(url, "pegboard")) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield Snapshot(connection)
    except psycopg.Error as error:
        words = trouble_of(error) or f"the database cannot be read: {type(error).__name__}"
        raise DatabaseUnreadable(words) from None


_SERVER = (
    "SELECT split_part(current_setting('server_version'), ' ', 1), pg_database_size(current_database()), "
    "current_setting('max_connections')::int, "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'client%')"
)
_HUBS = (
    "SELECT coalesce(array_agg(DISTINCT application_name ORDER BY application_name), '{}') FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'pegboard hub%'"
)


def _one(connection: psycopg.Connection[Any], query: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    return tuple(row) if row else ()
