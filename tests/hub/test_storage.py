"""The database: made from nothing, equal to what the code expects, and never misread."""

from __future__ import annotations

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

pytestmark = pytest.mark.anyio


async def test_migrations_make_exactly_the_tables_the_code_declares(company: Company) -> None:
    database = Database.at(company.home.database)
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
    database = Database.at(company.home.database)
    await migrate(database)
    with contextlib.suppress(IntegrityError):
        async with database.write() as connection:
            for _ in range(2):
                await connection.execute(text("INSERT INTO bundles VALUES ('edge', 1, 'x')"))
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM bundles")) == 0
    await database.close()


async def test_the_embedded_database_is_opened_for_surviving_a_kill(company: Company) -> None:
    database = Database.at(company.home.database)
    async with database.read() as connection:
        settings = [
            await connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    await database.close()
    assert settings == ["wal", 1, 5000]
