"""The database and what is on its way to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import read_grants
from pegboard_hub.common.database_url import FILE_VARIABLE, VARIABLE
from pegboard_hub.storage.errors import DatabaseUnreadable
from pegboard_hub.storage.postgresql import address_of, see
from pegboard_hub.storage.schema import Age, Schema, open_to_read, revisions, schema_of
from pegboard_hub.upkeep.files import read_own
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, size, span, warning, well

BUSY = 0.9
"""Share of a server's connections from which it is near its end."""

CHECK_S = 30.0
"""Seconds that the database's own check may take."""

WAITING_S = 60.0
"""Age in seconds from which a record of a running instance waits for too long; deliveries are tried every 5 s."""

_STEPS = 100_000
_RESTORE = "restore a backup (pegboard restore), or the copy from before the migration, which lies beside it"


def schema(facts: Facts) -> Iterator[Finding]:
    """The database's schema against this version's."""
    if facts.server or facts.database_url:
        return  # `database` looks
    try:
        found = schema_of(facts.home.database)
    except (DatabaseUnreadable, PermissionError) as error:
        yield must_mend(str(error), _RESTORE)
        return
    yield from _age(found)


def _age(found: Schema) -> Iterator[Finding]:
    match found.age:
        case Age.NONE:
            yield well("there is no database yet")
        case Age.CURRENT:
            yield well(f"the database has schema {found.found}, this version's own")
        case Age.OLDER:
            yield well(f"the database has schema {found.found}; the next start brings it to {found.newest}")
        case Age.NEWER:
            yield must_mend(
                f"the database has schema {found.found}; the newest this version knows is {found.newest}",
                "start the Pegboard version that wrote it, or restore a backup made with this one",
            )


def database(facts: Facts) -> Iterator[Finding]:
    """SQLite's own check of the file, as far as it comes in the time it has; or what a server says."""
    if facts.database_url:
        yield from _at_server(facts)
        return
    if facts.server:
        yield warning(
            f"data is kept in {facts.server}, which is not looked at",
            f"run this with {VARIABLE} (or {FILE_VARIABLE}) set, as for `pegboard up`",
        )
        return
    file = facts.home.database
    if not file.exists() or file.stat().st_size == 0:
        return
    deadline = time.monotonic() + CHECK_S
    try:
        with open_to_read(file) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            faults = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except DatabaseUnreadable as error:
        if "interrupted" in str(error):
            yield warning(
                f"the database is not checked to its end: {size(file.stat().st_size)} take more than {CHECK_S:.0f} s",
                "make a backup: it is read whole, and `pegboard restore` checks all of it",
            )
        else:
            yield must_mend(f"the database is damaged: {error}", f"stop the instance, and {_RESTORE}")
        return
    if faults == ["ok"]:
        yield well(f"the database is whole ({size(file.stat().st_size)})")
    else:
        yield must_mend(f"the database is damaged: {'; '.join(faults)}", f"stop the instance, and {_RESTORE}")


def _at_server(facts: Facts) -> Iterator[Finding]:
    """A PostgreSQL: reached, of the right schema, led by one hub, and with connections to spare."""
    try:
        shown, seen = address_of(facts.database_url), see(facts.database_url)
    except (ConfigurationError, DatabaseUnreadable) as error:
        yield must_mend(str(error), "mend what it names; calls go on meanwhile, and records wait")
        return
    if facts.server and facts.server != shown:
        yield must_mend(
            f"data is kept in {facts.server}, and {VARIABLE} names {shown}", f"set {VARIABLE} as for `pegboard up`"
        )
    yield from _age(Schema(seen.revision, revisions()[-1]))
    yield well(f"data is kept in {shown} (PostgreSQL {seen.version}, {size(seen.bytes)})")
    hubs = [name.removeprefix("pegboard ") for name in seen.hubs]
    if seen.leader:
        yield well(f"{seen.leader.removeprefix('pegboard ')} leads; connected: {', '.join(hubs)}")
    elif facts.running:
        yield must_mend(
            "no hub leads, so grants, revocations and keys do not come to edge and servers", "see the logs"
        )
    if seen.connections > seen.most * BUSY:
        yield warning(
            f"the server has {seen.connections} of {seen.most} connections in use",
            "raise its max_connections, or lower PEGBOARD_DATABASE_POOL",
        )


def undelivered(facts: Facts) -> Iterator[Finding]:
    """Records that servers have and the hub has not."""
    waiting, oldest, where = 0, 0.0, ""
    for folder in sorted((facts.home.root / "spool").glob("*")):
        count, age = _spool(folder, facts.now)
        waiting += count
        if count and age > oldest:
            oldest, where = age, folder.name
    behind = _access_log_behind(facts)
    told = f"{plural(waiting, 'record')} and {size(behind)} of the access log wait for the hub"
    if facts.running and waiting and oldest > WAITING_S:
        yield warning(
            f"{told}, in {where} for {span(oldest)}",
            f"see why the hub does not take them: {facts.home.log('hub')}. They are kept, and come later",
        )
    elif facts.exists:
        yield well(f"{told}{'' if facts.running else '; they are delivered at the next start'}")


def _spool(folder: Path, now: float) -> tuple[int, float]:
    """How many records wait, and the seconds since something was last written to the oldest segment that has one."""
    owner = folder.stat().st_uid
    segment, offset = "", 0
    with suppress(ValueError, KeyError, TypeError):
        cursor = json.loads(read_own(folder / "cursor.json", owner) or b"{}")
        segment, offset = str(cursor["segment"]), int(cursor["offset"])
    count, oldest = 0, 0.0
    for path in sorted(folder.glob("*.jsonl")):
        content = read_own(path, owner) if path.name >= segment else None
        lines = (content or b"").count(b"\n", offset if path.name == segment else 0)
        if lines:
            count += lines
            oldest = max(oldest, now - path.lstat().st_mtime)
    return count, oldest


def _access_log_behind(facts: Facts) -> int:
    with suppress(OSError, ValueError, KeyError, TypeError):
        mark = json.loads((facts.home.edge / "log.offset").read_text(encoding="utf-8"))
        found = facts.home.edge_access_log.stat()
        return found.st_size - (int(mark["offset"]) if found.st_ino == mark["inode"] else 0)
    return 0


def grants(facts: Facts) -> Iterator[Finding]:
    """The operator's grants file: there, and without faults."""
    try:
        found = read_grants(facts.grants.read_text(encoding="utf-8"), str(facts.grants))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        yield must_mend(f"the grants file {facts.grants} cannot be read: {why}", "name it with --grants")
    except ConfigurationError as error:
        stays = "the last good one stays in force" if facts.running else "the last good one is used at a start"
        yield must_mend(f"the grants file {facts.grants} has a fault, and {stays}", "; ".join(error.problems))
    else:
        yield well(f"the grants file {facts.grants} names {plural(len(found.servers), 'server')}")
