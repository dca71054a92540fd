"""Bringing the database to the newest schema at start (the one door to Alembic).

`python -m pegboard_hub.storage.migrate [FILE]` does it alone: a large database may take longer than a hub may to
start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from pegboard.core.errors import PegboardError
from pegboard_hub.common.database_url import read_database_url
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.storage import copies
from pegboard_hub.storage import postgresql as server
from pegboard_hub.storage import schema as schemas
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import MigrationFailed, SchemaTooNew, StorageUnavailable
from pegboard_hub.storage.schema import Age, Schema

log = logging.getLogger(__name__)


async def migrate(database: Database) -> None:
    """Run the migrations that are missing, all or none of them, after a copy of an embedded database was kept.

    Raises:
        SchemaTooNew: the database knows a revision that this code does not; nothing was touched.
        DatabaseUnreadable: a server's database is none that Pegboard can use.
        StorageUnavailable: the server is away.
        MigrationFailed: a migration failed, or there is no room for the copy; the database is as it was.
    """
    async with database.read() as connection:
        if not database.embedded:
            await server.check_usable(connection)
        schema = Schema(await connection.run_sync(_revision), schemas.revisions()[-1])
    schema.check()
    if schema.age is Age.CURRENT:
        return
    copy = await _keep_copy(database, schema) if schema.age is Age.OLDER else None
    try:
        async with database.migration() as connection:
            # Another hub may have migrated while this one waited: then there is nothing left to do.
            schema = Schema(await connection.run_sync(_revision), schemas.revisions()[-1])
            schema.check()
            await connection.run_sync(upgrade)
    except (SchemaTooNew, StorageUnavailable):
        raise
    except Exception as error:
        if copy is not None:
            # Nothing changed, so the copy says no more than the database; the hub is started again, and would fill
            # the disk with copies.
            copy.unlink(missing_ok=True)
        log.exception("a migration failed", extra={"found": schema.found, "wanted": schema.newest})
        raise MigrationFailed(schema.found or "none", schema.newest, _first_line(error)) from error
    if schema.age is Age.CURRENT:
        log.info("another hub has brought the database schema up to date")
        return
    log.info(
        "database schema brought up to date",
        extra={"found": schema.found or None, "now": schema.newest, "copy": str(copy) if copy else None},
    )
    if database.file is not None:
        await asyncio.to_thread(copies.forget_old_copies, database.file)


async def _keep_copy(database: Database, schema: Schema) -> Path | None:
    """The copy's path; None where the operator's own tools back the database up."""
    if database.file is None:
        return None
    try:
        return await asyncio.to_thread(copies.copy_before_migration, database.file, schema.found)
    except OSError as error:
        why = f"a copy must be kept first, and cannot be: {_first_line(error)}"
        raise MigrationFailed(schema.found, schema.newest, why) from error


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(schemas.VERSIONS.parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


async def _migrate_only(database: Database) -> None:
    try:
        await migrate(database)
    finally:
        await database.close()


def main() -> int:
    """Migrate the database file that the command line names, or else the PostgreSQL that the environment does.

    The last line on stderr says why it could not be.
    """
    configure_logging()
    try:
        named = sys.argv[1:]
        database = Database.at(Path(named[0])) if named else Database(str(read_database_url(os.environ)))
        asyncio.run(_migrate_only(database))
    except PegboardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
