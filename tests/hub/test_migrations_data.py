"""Whatever a database of an earlier revision holds, in every table of it, is there after the migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.storage import schema
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import migrate, upgrade
from tests.hub.conftest import SERVER
from tests.hub.filling import AT_MS, DAY_MS, DIGESTS, NAMES, ODD, Row, Tables, everything, fill
from tests.hub.migrating import AddRevisions
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

GONE = {("servers", "registered"), ("artifacts", "content")}
"""Columns that a later revision drops, because it says the same in others."""

SERVERS_SINCE_0005: dict[str, Row] = {
    NAMES[0]: {
        "title": "Presto — 漢字",
        "description": "Query the warehouse",
        "owner": "platform",
        "support_channel": "#data-platform",
        "sensitivity": "confidential",
        "gallery": True,
        "lifecycle": "live",
        "lifecycle_why": "",
        "takes_any": False,
        "waiting": None,
        "first_live_at_ms": AT_MS,
        "created_at_ms": AT_MS,
    },
    NAMES[1]: {
        "title": None,
        "owner": "",
        "sensitivity": "restricted",
        "gallery": False,
        "lifecycle": "approved",
        "first_live_at_ms": AT_MS + 1,
    },
    NAMES[2]: {
        "title": None,
        "description": ODD,
        "owner": "",
        "sensitivity": "restricted",
        "gallery": False,
        "lifecycle": "retired",
        "lifecycle_why": "the grants file no longer names it",
        "first_live_at_ms": 0,
    },
}
"""What revision 0005 says of servers that were there: as their releases' manifests and the grants file did."""

RELEASES_SINCE_0005: dict[str, Row] = {
    DIGESTS[0]: {"semver": "1.0.0", "approved_at_ms": AT_MS, "deployed_at_ms": AT_MS},
    DIGESTS[1]: {"semver": "1.0.0", "approved_at_ms": AT_MS + 1},
    DIGESTS[2]: {"semver": "1.0.0", "approved_at_ms": 0},
    DIGESTS[3]: {"semver": "1.0.1", "approved_at_ms": AT_MS + DAY_MS},
}


@pytest.fixture
async def database(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with nothing in it, not even tables."""
    with ExitStack() as until_closed:
        if database_kind == SERVER:
            postgres: Postgres = request.getfixturevalue("postgres")
            found = Database(until_closed.enter_context(postgres.database(empty=True)))
        else:
            found = Database.at(tmp_path / "filled.db")
        yield found
        await found.close()


async def filled(database: Database, revision: str) -> Tables:
    """Bring an empty database to a revision and fill it; gives what it holds then."""
    async with database.migration() as connection:
        await connection.run_sync(upgrade, revision)
        await connection.run_sync(fill)
    return await held(database)


async def held(database: Database) -> Tables:
    async with database.read() as connection:
        return await connection.run_sync(everything)


def lost(before: Tables, after: Tables) -> list[str]:
    """What is not there any more, a line each."""
    return [line for table, rows in before.items() for line in _lost_of(table, rows, after.get(table, []))]


def _lost_of(table: str, before: list[Row], after: list[Row]) -> list[str]:
    kept = [name for name in before[0] if (table, name) not in GONE]
    left = [{name: row.get(name, "no such column") for name in kept} for row in after]
    missing = []
    for row in before:
        wanted = {name: row[name] for name in kept}
        if wanted in left:
            left.remove(wanted)
        else:
            missing.append(f"{table}: {wanted}")
    return missing


def differing(rows: list[Row], key: str, wanted: dict[str, Row]) -> dict[str, Any]:
    """Values that are not as wanted, by the row's key."""
    found = {row[key]: row for row in rows}
    return {
        name: {column: found[name][column] for column, value in values.items() if found[name][column] != value}
        for name, values in wanted.items()
        if any(found[name][column] != value for column, value in values.items())
    }


REVISIONS = schema.revisions()[:-1]
FIRST_AND_NEWEST = [
    pytest.param(each, marks=() if each in (REVISIONS[0], *REVISIONS[-3:]) else pytest.mark.heavy)
    for each in REVISIONS
]
"""Each is tried in the long run of the tests; in every run these."""


@pytest.mark.both_databases(heavy=True)
@pytest.mark.parametrize("revision", FIRST_AND_NEWEST)
async def test_every_row_of_every_table_of_an_earlier_revision_is_there_after_the_migrations(
    database: Database, revision: str
) -> None:
    await check_that_nothing_is_lost(database, revision)


@pytest.mark.parametrize("database_kind", [SERVER], indirect=True)
@pytest.mark.parametrize("revision", [REVISIONS[0], *REVISIONS[-2:]])
async def test_so_it_is_on_a_server_of_the_first_revision_and_of_the_newest(
    database: Database, revision: str
) -> None:
    await check_that_nothing_is_lost(database, revision)


async def check_that_nothing_is_lost(database: Database, revision: str) -> None:
    before = await filled(database, revision)
    assert {table: len(rows) for table, rows in before.items() if len(rows) < 2} == {}
    await migrate(database)
    after = await held(database)
    assert lost(before, after) == []
    if revision < "0005":
        assert differing(after["servers"], "name", SERVERS_SINCE_0005) == {}
        assert differing(after["releases"], "digest", RELEASES_SINCE_0005) == {}


LOSSES = {
    "a row": "op.execute(\"DELETE FROM usage_totals WHERE status = ''\")",
    "a value": 'op.execute("UPDATE tools SET description = trim(description)")',
    "what was null": "op.execute('UPDATE tools SET title = 0 WHERE title IS NULL')",
    "a part of a JSON": "op.execute(\"UPDATE outcomes SET steps_ms = replace(steps_ms, 'null', '0')\")",
    "a column": "op.drop_column('sessions', 'email')",
    "a table": "op.drop_table('revocations')",
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_migration_that_loses_anything_is_found(
    database: Database, add_revisions: AddRevisions, loss: str
) -> None:
    newest = schema.revisions()[-1]
    add_revisions(loss)
    before = await filled(database, newest)
    await migrate(database)
    assert lost(before, await held(database)) != []
