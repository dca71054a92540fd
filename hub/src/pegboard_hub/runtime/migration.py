"""Bringing an older database up to date before the hub starts, as the hub's user, for as long as it takes."""

from __future__ import annotations

import asyncio
import sys

from pegboard.core.errors import PegboardError
from pegboard_hub.common.database_url import VARIABLE
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.storage.schema import Age, Schema


async def bring_up_to_date(
    home: Home, isolation: Isolation, schema: Schema, report: Reporter, database_url: str = ""
) -> None:
    """Migrate the database, where its schema is older than this version's; one at a server is looked at in any case.

    Raises:
        PegboardError: it could not be; the database is as it was, and the message says why.
    """
    if database_url:
        await _migrate(home, isolation, [], {VARIABLE: database_url})
        return
    if schema.age is not Age.OLDER:
        return
    report.step(
        f"the database is brought from schema {schema.found} to {schema.newest}; a copy is kept in {home.data}"
    )
    await _migrate(home, isolation, [str(home.database)], {})
    report.step(f"the database has schema {schema.newest}")


async def _migrate(home: Home, isolation: Isolation, arguments: list[str], variables: dict[str, str]) -> None:
    command = [sys.executable, "-I", "-m", "pegboard_hub.storage.migrate", *arguments]
    process = await asyncio.create_subprocess_exec(
        *isolation.trusted("hub", command),
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home.root), **variables},
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    with home.log("hub").open("ab") as log:
        log.write(told)
    if process.returncode != 0:
        lines = told.decode(errors="replace").strip().splitlines()
        raise PegboardError(lines[-1] if lines else f"the migration ended with status {process.returncode}")
