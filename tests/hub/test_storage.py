"""The database: made from nothing, equal to what the code expects, and never misread."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from pegboard_hub.storage.database import Database
from pegboard_hub.storage.metadata import metadata
from pegboard_hub.storage.migrate import migrate
from tests.hub.company import Company

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


async def test_migrations_make_exactly_the_tables_the_code_declares(company: Company) -> None:
    database = opened_database(company)
    await migrate(database)
    await migrate(database)
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await database.close()
    assert differences == []
    assert {"servers", "bundles", "calls", "outcomes"} <= metadata.tables.keys()


async def test_a_transaction_that_fails_leaves_nothing(company: Company) -> None:
    database = opened_database(company)
    await migrate(database)
    with contextlib.suppress(IntegrityError):
        async with database.write() as connection:
            for _ in range(2):
                await connection.execute(text("INSERT INTO bundles VALUES ('edge', 1, 'x')"))
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM bundles")) == 0
    await database.close()


async def test_a_reader_sees_one_state_whatever_is_written_meanwhile(company: Company) -> None:
    database = opened_database(company)
    await migrate(database)
    async with database.read() as reading:
        before = await reading.scalar(COUNT)
        await write(database, "edge")
        assert await reading.scalar(COUNT) == before == 0
    async with database.read() as reading:
        assert await reading.scalar(COUNT) == 1
    await database.close()


async def test_writers_of_several_hubs_follow_one_another(company: Company) -> None:
    """Each reads what is there and writes one more: none is lost, also where nothing but the turn orders them."""
    hubs = [opened_database(company) for _ in range(3)]
    await migrate(hubs[0])
    await write(hubs[0], "edge")

    async def count_up(database: Database) -> None:
        for _ in range(10):
            async with database.write() as connection:
                version = await connection.scalar(text("SELECT version FROM bundles"))
                await asyncio.sleep(0)
                await connection.execute(text("UPDATE bundles SET version = :next"), {"next": version + 1})

    await asyncio.gather(*(count_up(database) for database in hubs for _ in range(2)))
    async with hubs[0].read() as connection:
        assert await connection.scalar(text("SELECT version FROM bundles")) == 1 + 60
    for database in hubs:
        await database.close()


async def test_a_writer_sees_what_was_committed_before_its_turn(company: Company) -> None:
    one, other = opened_database(company), opened_database(company)
    await migrate(one)
    began, waiting = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with one.write() as connection:
            began.set()
            await waiting.wait()
            await connection.execute(text("INSERT INTO bundles VALUES ('edge', 1, 'x')"))

    async def second() -> int:
        await began.wait()
        waiting.set()
        async with other.write() as connection:
            return int(await connection.scalar(COUNT) or 0)

    _, seen = await asyncio.gather(first(), second())
    assert seen == 1
    await one.close()
    await other.close()


async def write(database: Database, consumer: str) -> None:
    async with database.write() as connection:
        await connection.execute(text("INSERT INTO bundles VALUES (:consumer, 1, 'x')"), {"consumer": consumer})


def opened_database(company: Company) -> Database:
    return Database(company.database_url) if company.database_url else Database.at(company.home.database)


COUNT = text("SELECT count(*) FROM bundles")


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_a_write_that_must_outlive_a_loss_of_power_waits_for_the_disk_and_the_next_does_not(
    company: Company,
) -> None:
    database = opened_database(company)
    await migrate(database)
    levels = []
    for flushed in (True, False):
        async with database.write(flushed=flushed) as connection:
            levels.append(await connection.scalar(text("PRAGMA synchronous")))
    assert levels == [2, 1]
    await database.close()


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_the_embedded_database_is_opened_for_surviving_a_kill(company: Company) -> None:
    database = Database.at(company.home.database)
    async with database.read() as connection:
        settings = [
            await connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    await database.close()
    assert settings == ["wal", 1, 5000]
