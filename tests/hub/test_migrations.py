"""An older database is brought up to date with nothing lost, or left as it was; a newer one is never touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table

from pegboard_hub.storage import copies, schema
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import DatabaseUnreadable, MigrationFailed, SchemaTooNew
from pegboard_hub.storage.metadata import metadata
from pegboard_hub.storage.migrate import migrate, upgrade
from pegboard_hub.storage.schema import Age, schema_of
from tests.hub.company import Company, opened
from tests.hub.migrating import AddRevisions
from tests.postgres import Postgres, execute
from tests.postgres import rows as query

pytestmark = pytest.mark.anyio

SCHEMAS = Path(__file__).parent / "schemas"
"""Databases as versions that were released left them on disks, with something in every table."""


def load(path: Path, dump: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text())


def differences(connection: Connection) -> list[object]:
    """Where the tables are not as the code declares them."""
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything in a database, by table."""
    with schema.open_to_read(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608


@pytest.mark.parametrize("dump", sorted(SCHEMAS.glob("*.sql")), ids=lambda path: path.stem)
async def test_a_database_of_an_older_version_is_brought_up_to_date_with_all_it_holds(
    company: Company, dump: Path
) -> None:
    load(company.home.database, dump)
    before = rows(company.home.database)
    async with opened(company) as hub:
        assert {call["id"] for call in await hub.calls("ana")} >= {"call-0", "call-1", "call-2", "unfinished"}
        assert [call["status"] for call in await hub.calls("fay")] == ["denied"]
        async with hub.parts.database.read() as connection:
            assert await connection.run_sync(differences) == []
    after = rows(company.home.database)
    for table in before.keys() - {"alembic_version"}:
        assert len(after[table]) >= len(before[table]), table
    assert schema_of(company.home.database).age is Age.CURRENT
    kept = [schema_of(copy).found for copy in copies.copies(company.home.database)]
    assert kept == ([] if dump.stem == schema.revisions()[-1] else [dump.stem])


OLDER = schema.revisions()[:-1]
FIRST_AND_NEWEST = [
    pytest.param(each, marks=() if each in (OLDER[0], OLDER[-1]) else pytest.mark.heavy) for each in OLDER
]
"""Each is brought up to date in the long run of the tests; in every run these two."""


@pytest.mark.parametrize("revision", FIRST_AND_NEWEST)
async def test_an_older_version_s_database_at_a_server_is_brought_up_to_date_with_all_it_holds(
    company: Company, revision: str, postgres: Postgres, tmp_path: Path
) -> None:
    dump = max(path for path in SCHEMAS.glob("*.sql") if path.stem <= revision)
    load(tmp_path / "before.db", dump)
    with postgres.database(empty=True) as url:
        before = await as_revision(url, dump.stem, tmp_path / "before.db", revision)
        company.database_url = url
        async with opened(company) as hub:
            assert {call["id"] for call in await hub.calls("ana")} >= {"call-0", "call-1", "call-2", "unfinished"}
            async with hub.parts.database.read() as connection:
                assert await connection.run_sync(differences) == []
            figures = await hub.parts.ledger.figures()
        for table, count in before.items():
            assert query(url, f"SELECT count(*) FROM {table}")[0][0] >= count, table  # noqa: S608
    # The same as the embedded database says after the same migrations.
    load(company.home.database, dump)
    company.database_url = ""
    async with opened(company) as hub:
        assert await hub.parts.ledger.figures() == figures


async def as_revision(url: str, loaded: str, embedded: Path, revision: str) -> dict[str, int]:
    """Make a server's database as a revision left it, with an embedded one's rows; gives how many, by table."""
    database = Database(url)
    found = {name: values for name, values in rows(embedded).items() if name != "alembic_version"}
    try:
        async with database.migration() as connection:
            await connection.run_sync(upgrade, loaded)
            tables = await connection.run_sync(reflected)
            for table in tables.sorted_tables:
                if values := found.get(table.name):
                    await connection.execute(table.insert(), [typed(table, row) for row in values])
            await connection.run_sync(upgrade, revision)
    finally:
        await database.close()
    return {name: len(values) for name, values in found.items()}


def reflected(connection: Connection) -> MetaData:
    tables = MetaData()
    tables.reflect(connection)
    return tables


def typed(table: Table, row: tuple[object, ...]) -> dict[str, object]:
    """A row of SQLite's with the types of a server's table; columns of both are in the same order."""
    kinds = {"BOOLEAN": bool, "JSON": lambda text: json.loads(text)}
    return {
        column.name: kinds.get(str(column.type), lambda same: same)(value) if value is not None else None
        for column, value in zip(table.columns, row, strict=True)
    }


async def test_hubs_that_start_at_once_on_an_empty_database_migrate_it_once(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with postgres.database(empty=True) as url:
        databases = [Database(url) for _ in range(4)]
        await asyncio.gather(*(migrate(each) for each in databases))
        for each in databases:
            async with each.read() as connection:
                assert await connection.run_sync(differences) == []
            await each.close()
    said = [record.getMessage() for record in caplog.records]
    assert said.count("database schema brought up to date") == 1


async def test_at_a_server_a_migration_that_fails_leaves_everything_as_it_was(
    postgres: Postgres, add_revisions: AddRevisions
) -> None:
    with postgres.database() as url:
        add_revisions("op.execute('DROP TABLE grants')\nop.execute('INSERT INTO nowhere VALUES (1)')")
        database = Database(url)
        with pytest.raises(MigrationFailed, match=r"is as it was: .*nowhere"):
            await migrate(database)
        await database.close()
        assert query(url, "SELECT count(*) FROM grants") == [(0,)]


async def test_at_a_server_a_database_of_a_newer_version_is_refused(postgres: Postgres) -> None:
    with postgres.database() as url:
        execute(url, "UPDATE alembic_version SET version_num = '9999'")
        database = Database(url)
        with pytest.raises(SchemaTooNew, match="9999"):
            await migrate(database)
        await database.close()


async def test_the_first_revision_still_makes_what_it_made_when_it_was_released(tmp_path: Path) -> None:
    load(tmp_path / "released.db", SCHEMAS / "0001.sql")
    (tmp_path / "versions").mkdir()
    database = Database.at(tmp_path / "made.db")
    try:
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path / "migrations"
            shutil.copytree(schema.VERSIONS.parent, folder, ignore=shutil.ignore_patterns("000[2-9]*", "00[1-9]*"))
            patch.setattr(schema, "VERSIONS", folder / "versions")
            await migrate(database)
    finally:
        await database.close()
    assert shape(tmp_path / "made.db") == shape(tmp_path / "released.db")


def shape(path: Path) -> set[str]:
    with schema.open_to_read(path) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
        return {" ".join(sql.split()) for (sql,) in found}


def test_revisions_follow_one_another_and_are_named_after_themselves() -> None:
    found = schema.revisions()
    assert found == [f"{number:04}" for number in range(1, len(found) + 1)]
    before = None
    for revision, path in zip(found, sorted(schema.VERSIONS.glob("[0-9]*.py")), strict=True):
        text = path.read_text()
        assert f'revision = "{revision}"\n' in text, path
        assert (f'down_revision = "{before}"\n' if before else "down_revision = None\n") in text, path
        before = revision


async def test_a_copy_from_before_is_kept_beside_the_database(company: Company, add_revisions: AddRevisions) -> None:
    async with opened(company):
        pass
    found, before = schema_of(company.home.database).found, rows(company.home.database)
    add_revisions("op.execute('CREATE TABLE added (x)')", "op.execute('DROP TABLE refusal_counts')")
    database = Database.at(company.home.database)
    await migrate(database)
    await database.close()
    [copy] = copies.copies(company.home.database)
    assert f"-{found}-" in copy.name
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows(copy) == before
    after = rows(company.home.database)
    assert "added" in after
    assert "refusal_counts" not in after


async def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(
    company: Company, add_revisions: AddRevisions
) -> None:
    async with opened(company):
        pass
    before = rows(company.home.database)
    first = "op.execute('CREATE TABLE added (x)')\nop.execute(\"DELETE FROM servers\")"
    add_revisions(first, "op.execute('DROP TABLE grants')\nop.execute('INSERT INTO nowhere VALUES (1)')")
    for _ in range(2):  # as a supervisor does
        with pytest.raises(MigrationFailed, match=r"is as it was: .*nowhere"):
            async with opened(company):
                pass
        assert rows(company.home.database) == before
        assert copies.copies(company.home.database) == []


async def test_a_table_that_is_rebuilt_takes_no_rows_along_that_refer_to_it(
    company: Company, add_revisions: AddRevisions
) -> None:
    async with opened(company):
        pass
    before = rows(company.home.database)
    add_revisions(
        "with op.batch_alter_table('servers', recreate='always') as batch:\n    batch.alter_column('reason')"
    )
    database = Database.at(company.home.database)
    await migrate(database)
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    await database.close()
    after = rows(company.home.database)
    assert {**after, "alembic_version": []} == {**before, "alembic_version": []}


async def test_a_migration_that_breaks_a_reference_is_taken_back(
    company: Company, add_revisions: AddRevisions
) -> None:
    async with opened(company):
        pass
    before = rows(company.home.database)
    add_revisions("op.execute('DELETE FROM servers')")
    database = Database.at(company.home.database)
    with pytest.raises(MigrationFailed, match="refers to one of servers"):
        await migrate(database)
    await database.close()
    assert rows(company.home.database) == before


async def test_only_the_newest_copies_are_kept(company: Company) -> None:
    async with opened(company):
        pass
    file = company.home.database
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = [copies.copy_before_migration(file, "0001", now + timedelta(minutes=number)) for number in range(5)]
    copies.forget_old_copies(file)
    assert copies.copies(file) == made[-copies.COPIES_KEPT :]


async def test_without_room_for_the_copy_nothing_is_migrated(
    company: Company, add_revisions: AddRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(company):
        pass
    before = rows(company.home.database)
    add_revisions("op.execute('CREATE TABLE added (x)')")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(copies, "_copy_pages", full)
    with pytest.raises(MigrationFailed, match="a copy must be kept first, and cannot be: no space left"):
        async with opened(company):
            pass
    assert rows(company.home.database) == before
    assert list(company.home.data.glob("*before*")) == []


async def test_a_database_of_a_newer_version_is_refused_and_not_touched(company: Company) -> None:
    async with opened(company):
        pass
    with contextlib.closing(sqlite3.connect(company.home.database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = company.home.database.read_bytes()
    assert schema_of(company.home.database).age is Age.NEWER
    with pytest.raises(SchemaTooNew, match="9999"):
        async with opened(company):
            pass
    assert company.home.database.read_bytes() == before


def test_telling_a_schema_changes_nothing_and_what_is_no_database_is_said(tmp_path: Path) -> None:
    assert schema_of(tmp_path / "none.db").age is Age.NONE
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "text.db"
    file.write_text("not a database, but long enough to have a header" * 10)
    with pytest.raises(DatabaseUnreadable, match="not a database"):
        schema_of(file)
    load(tmp_path / "old.db", SCHEMAS / "0001.sql")
    assert schema_of(tmp_path / "old.db").found == "0001"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.db", "text.db"]


async def test_a_copy_holds_one_moment_while_writers_go_on(company: Company, tmp_path: Path) -> None:
    """Each write would otherwise begin the copy anew, and a busy hub could never be backed up."""
    file = tmp_path / "busy.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x)")
        writer.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 3000)
        steps: list[int] = []

        def write(done: int, _all: int) -> None:
            steps.append(done)
            writer.execute("INSERT INTO t VALUES ('later')")

        copies.copy_database(file, tmp_path / "copy.db", write)
        assert len(steps) >= 3
        assert steps == sorted(steps)
        assert writer.execute("SELECT count(*) FROM t").fetchone() == (3000 + len(steps),)
    assert len(rows(tmp_path / "copy.db")["t"]) == 3000
    assert not (tmp_path / "copy.db-wal").exists()
