"""Making a backup of an instance, running or not: collect, list with digests, pack, put in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted, server_of
from pegboard_hub.storage.errors import DatabaseUnreadable
from pegboard_hub.storage.schema import schema_of
from pegboard_hub.upkeep.archive import write_archive
from pegboard_hub.upkeep.collecting import collect
from pegboard_hub.upkeep.errors import BackupFailed, in_words
from pegboard_hub.upkeep.files import working_folder
from pegboard_hub.upkeep.members import DATABASE, Manifest, Member, Part


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made.

    Attributes:
        file: where it is.
        size: its bytes.
        sha256: of the whole file, in hex.
        manifest: what is in it.
    """

    file: Path
    size: int
    sha256: str
    manifest: Manifest

    @property
    def parts(self) -> list[Part]:
        """The parts of the instance that are in it."""
        return self.manifest.parts()


def back_up(
    home: Home, file: Path, say: Callable[[str], None], *, keys: bool = True, secrets: bool = False
) -> Backup:
    """Make the new file `file`; it appears when it is complete, and no part of it is left otherwise.

    Everything the hub or a server acknowledged before the call is in it, but for what is in a PostgreSQL: that is the
    operator's own to back up.

    Args:
        home: of the instance.
        file: the backup; its folder must be there.
        say: takes lines of progress.
        keys: with private keys, but for those that sign; without them people sign in again after a restore.
        secrets: with the servers' secrets.

    Raises:
        BackupFailed: there is no instance, the file exists, or something cannot be read or written.
    """
    if not home.database.exists() and not server_of(home):
        raise BackupFailed(f"there is no instance at {home.root}: it has no database; name another with --home")
    if file.exists():
        raise BackupFailed(f"{file} is there already, and no backup is written over: name another file")
    if not file.parent.is_dir():
        raise BackupFailed(f"there is no folder {file.parent}: make it, or name another file")
    made_at = datetime.now(UTC)
    try:
        with working_folder(file.parent, "packing") as staging:
            names = collect(home, staging / "home", say, keys=keys, secrets=secrets)
            manifest = _manifest(home, staging / "home", names, made_at)
            say(f"packing {len(names)} files")
            partial = staging / "backup"
            write_archive(partial, manifest, lambda member: staging / "home" / member.name)
            made = Backup(file, partial.stat().st_size, _digest(partial), manifest)
            partial.rename(file)
            _sync_folder(file.parent)
    except PermissionError as error:
        who = "run this as the user that runs `pegboard up`"
        raise BackupFailed(f"{error.filename} cannot be used: {error.strerror}; {who}") from error
    except OSError as error:
        raise BackupFailed(f"no backup was made: {in_words(error)}") from error
    except DatabaseUnreadable as error:
        raise BackupFailed(f"no backup was made: {error}") from error
    return made


def default_name(now: datetime | None = None) -> str:
    """The name of a backup that nobody named: it sorts by time."""
    return f"pegboard-backup-{(now or datetime.now(UTC)).strftime('%Y%m%dT%H%M%SZ')}.tar.gz"


def _manifest(home: Home, folder: Path, names: list[str], made_at: datetime) -> Manifest:
    instance = noted(home)
    return Manifest(
        pegboard=version("pegboard-hub"),
        db_schema=schema_of(folder / DATABASE).found if DATABASE in names else "",
        made_at=made_at.isoformat(timespec="milliseconds"),
        public_url=str(instance.get("public_url", "")),
        grants=str(instance.get("grants", "")),
        members=tuple(
            Member(name=name, size=(folder / name).stat().st_size, sha256=_digest(folder / name)) for name in names
        ),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
