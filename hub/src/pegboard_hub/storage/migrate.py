"""Bringing the database to the newest schema at start (the one door to Alembic)."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection

from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import SchemaTooNew

log = logging.getLogger(__name__)


async def migrate(database: Database) -> None:
    """Run the migrations that are missing, all or none of them.

    Raises:
        SchemaTooNew: the database knows a revision that this code does not.
    """
    async with database.write() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None:
        try:
            scripts.get_revision(current)
        except (CommandError, ResolutionError) as error:
            raise SchemaTooNew(current, scripts.get_current_head() or "none") from error
    head = scripts.get_current_head()
    if current != head:
        log.info("database schema brought up to date", extra={"found": current, "now": head})
    command.upgrade(config, "head")
