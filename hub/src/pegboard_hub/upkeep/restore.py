"""Bringing an instance back from a backup: check all of it, build the home beside its place, put it there at once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import FOLDERS, Home
from pegboard_hub.common.noted import server_of
from pegboard_hub.runtime import preflight, procfs
from pegboard_hub.storage.errors import DatabaseUnreadable
from pegboard_hub.storage.schema import Schema, open_to_read, revisions
from pegboard_hub.upkeep.archive import Open, open_archive
from pegboard_hub.upkeep.errors import BackupRefused, RestoreFailed, in_words
from pegboard_hub.upkeep.files import working_folder
from pegboard_hub.upkeep.members import DATABASE, MANIFEST, SIGNING_KEYS, Manifest, Member, Part, kind_of

SPARE_BYTES = 64 * 1024 * 1024
"""Room that must be left on the disk."""

APPROVALS_SINCE = "0012"
"""The first schema with approvals."""

RESTORED = "the hub was restored from a backup, so nobody knows what ran since"

MANIFEST_KEPT = f"from-backup/{MANIFEST}"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """An instance that was brought back.

    Attributes:
        home: where it is.
        manifest: what the backup was.
        moved: where the home is that was there before; None when there was none.
    """

    home: Path
    manifest: Manifest
    moved: Path | None

    @property
    def parts(self) -> list[Part]:
        """The parts of the instance that came back."""
        return self.manifest.parts()


def restore(file: Path, home: Path, say: Say, *, replace: bool = False) -> Restored:
    """Bring the instance in backup `file` back, into the new home `home`: all of it, or nothing.

    Args:
        file: made by `backup.back_up`.
        home: a folder that is not there, or empty.
        say: takes lines of progress.
        replace: a stopped instance at `home` is moved aside, and stays there.

    Raises:
        BackupRefused: the file is no good backup, or one of a newer version.
        ConfigurationError: an instance runs on `home`.
        RestoreFailed: the home cannot be put there.
    """
    home = home.expanduser().absolute()
    try:
        _check_place(home, replace)
        home.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(home.parent, "restoring") as staging:
            manifest = _unpack(file, staging, say)
            if manifest.db_schema:
                say("checking the database")
                _prepare_database(file, staging / DATABASE, manifest)
            elif not server_of(Home.at(staging)):
                raise BackupRefused(file, "it holds no database, and names none")
            moved = _put_in_place(staging, home, replace)
    except OSError as error:
        raise RestoreFailed(f"nothing was restored: {in_words(error)}") from error
    return Restored(home, manifest, moved)


def _check_place(home: Path, replace: bool) -> None:
    there = Home.at(home)
    process = procfs.flock_holder(there.lock) or procfs.flock_holder(there.keeper_lock)
    if process is not None:
        mend = "stop it first (pegboard down), or name another folder with --home"
        raise ConfigurationError(f"PEGBOARD_HOME {home}", [f"Pegboard runs on this home, as process {process}", mend])
    if home.is_symlink() or (home.exists() and not home.is_dir()):
        raise RestoreFailed(f"{home} is no folder: name one that is not there, with --home")
    if home.exists() and any(home.iterdir()) and not replace:
        raise RestoreFailed(
            f"{home} is not empty: name a folder that is not there with --home, or move what is there aside "
            "with --replace"
        )


def _unpack(file: Path, staging: Path, say: Say) -> Manifest:
    staging.chmod(0o700)
    with open_archive(file) as (manifest, take):
        Schema(manifest.db_schema, revisions()[-1]).check()
        if manifest.db_schema and DATABASE not in {member.name for member in manifest.members}:
            raise BackupRefused(file, "it holds no database")
        needed = sum(member.size for member in manifest.members) + SPARE_BYTES
        if (free := shutil.disk_usage(staging).free) < needed:
            raise RestoreFailed(f"{staging.parent} has too little room: {needed:,} bytes needed, {free:,} free")
        say(f"unpacking {len(manifest.members)} files from {manifest.made_at}")
        take(_place_in(staging))
    if [name for name in SIGNING_KEYS if _removed(staging / name)]:
        say(
            "left out: the keys that signed then, of which one may have been given up since; the start makes new ones"
        )
    kept = staging / MANIFEST_KEPT
    _folder_for(staging, MANIFEST_KEPT)
    kept.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return manifest


def _removed(path: Path) -> bool:
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _place_in(staging: Path) -> Open:
    def place(member: Member) -> IO[bytes]:
        kind = kind_of(member.name)
        assert kind is not None  # noqa: S101 - the manifest was checked for it
        _folder_for(staging, member.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(staging / member.name, flags, kind.mode), "wb")

    return place


def _folder_for(staging: Path, name: str) -> None:
    """The folders above a member, closed to others but where a home has them open."""
    folder = staging
    for part in Path(name).parts[:-1]:
        folder = folder / part
        if not folder.exists():
            folder.mkdir(mode=0o700)
            folder.chmod(FOLDERS.get(folder.relative_to(staging).as_posix(), 0o700))


def _prepare_database(file: Path, database: Path, manifest: Manifest) -> None:
    try:
        with open_to_read(database) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except DatabaseUnreadable as error:
        raise BackupRefused(file, "its database cannot be read") from error
    if faults != ["ok"]:
        raise BackupRefused(file, "its database is damaged")
    if found is None or found[0] != manifest.db_schema:
        raise BackupRefused(file, "its database has another schema than its manifest says")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")
        # Consumers may hold bundles from after the backup: each is written anew, with a version of now.
        connection.execute("UPDATE bundles SET content = ''")
        # What the spools hold may be in the database already: it is remembered for as long as if it had just come.
        now_ms = int(time.time() * 1000)
        connection.execute("UPDATE counted SET seen_at_ms = ?", (now_ms,))
        if manifest.db_schema >= APPROVALS_SINCE:
            _end_approvals(connection, now_ms)


def _end_approvals(connection: sqlite3.Connection, now_ms: int) -> None:
    """End every approval that was under way: what it was given for may have run since, and must not run twice."""
    for before, after in (("requested", "expired"), ("approved", "expired"), ("claimed", "unknown")):
        connection.execute(
            "INSERT INTO approval_events (request, at_ms, before, after, who, who_name, why, door, shown) "
            "SELECT id, ?, state, ?, '', '', ?, 'clock', shown_digest FROM approval_requests WHERE state = ?",
            (now_ms, after, RESTORED, before),
        )
        connection.execute(
            "UPDATE approval_requests SET state = ?, held = NULL, ended_at_ms = ?, why = ? WHERE state = ?",
            (after, now_ms, RESTORED, before),
        )


def _put_in_place(staging: Path, home: Path, replace: bool) -> Path | None:
    if not home.exists() or not any(home.iterdir()):
        staging.rename(home)
        return None
    if not replace:
        raise RestoreFailed(f"{home} is not empty any more")
    # The lock is held over the move, so that nothing starts on a home that is on its way.
    lock = preflight.lock(Home.at(home))
    moved = home.with_name(f"{home.name}.replaced-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}")
    try:
        home.rename(moved)
        try:
            staging.rename(home)
        except OSError:
            moved.rename(home)
            raise
    finally:
        os.close(lock)
    return moved
