"""The file of a backup: a gzipped tar, written once and read with suspicion.

Nothing is extracted by tarfile: a member is a name that the manifest lists and bytes that have its digest, or the
whole archive is refused.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from pegboard_hub.upkeep.errors import BackupRefused
from pegboard_hub.upkeep.members import MANIFEST, Manifest, Member, kind_of

MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 256 * 1024
_MOST_AT_ONCE = 1024 * 1024
"""Bytes of one read. Headers that tarfile reads whole say themselves how long they are."""

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError, ValueError, OverflowError)

Open = Callable[[Member], IO[bytes]]
"""Where a member's bytes are to go, or where they come from."""


def write_archive(path: Path, manifest: Manifest, source: Callable[[Member], Path]) -> None:
    """Write the new file `path` (mode 0600 from its first byte), and hand it to the disk.

    Raises:
        OSError: it exists, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with (
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            text = manifest.model_dump_json(indent=1).encode()
            _add(tar, MANIFEST, len(text), io.BytesIO(text))
            for member in manifest.members:
                with source(member).open("rb") as content:
                    _add(tar, member.name, member.size, content)
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    tar.addfile(header, content)


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[Manifest, Callable[[Open], None]]]:
    """The manifest of a backup, and how to take the members out, each checked.

    Raises:
        BackupRefused: it is damaged, or holds what no backup holds.
        OSError: the file cannot be read, or a member cannot be written.
    """
    try:
        with (
            path.open("rb") as file,
            gzip.GzipFile(fileobj=file, mode="rb") as packed,
            tarfile.open(fileobj=_Wary(packed), mode="r:") as tar,
        ):
            manifest = _manifest(path, tar)
            yield manifest, lambda place: _take(path, tar, manifest, place)
    except _DAMAGED as error:
        raise BackupRefused(path, f"it is damaged, or no backup ({type(error).__name__})") from error


class _Wary(io.RawIOBase):
    """What was unpacked, in reads of a bounded size."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that were asked for unless it is the end."""
        if not 0 <= size <= _MOST_AT_ONCE:
            raise ValueError("a header is too long")
        return self._packed.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on at `offset`; tarfile goes forwards alone."""
        return self._packed.seek(offset, whence)

    def tell(self) -> int:
        """The place of the next byte."""
        return self._packed.tell()


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    header = tar.next()
    if header is None or header.name != MANIFEST or not _is_plain(header) or header.size > MOST_MANIFEST_BYTES:
        raise BackupRefused(path, f"it does not begin with a {MANIFEST}")
    text = b"".join(_chunks(tar, header))
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["loc"] == ("format",):
            newer = "its format is not the one this version knows: restore it with the version that made it, or later"
            raise BackupRefused(path, newer) from error
        where = ".".join(map(str, fault["loc"])) or "it"
        raise BackupRefused(path, f"its {MANIFEST} is not as it must be: {where}: {fault['msg']}") from error
    names = [member.name for member in manifest.members]
    if strange := next((name for name in names if kind_of(name) is None), None):
        raise BackupRefused(path, f"it lists {strange[:200]!r}, which is no part of a backup")
    if len(set(names)) != len(names):
        raise BackupRefused(path, "it lists a member twice")
    return manifest


def _take(path: Path, tar: tarfile.TarFile, manifest: Manifest, place: Open) -> None:
    waited = {member.name: member for member in manifest.members}
    while (header := tar.next()) is not None:
        member = waited.pop(header.name, None)
        if member is None:
            raise BackupRefused(path, f"it holds {header.name[:200]!r}, which its manifest does not list, or twice")
        if not _is_plain(header):
            raise BackupRefused(path, f"{member.name} is no plain file")
        if header.size != member.size:
            raise BackupRefused(path, f"{member.name} is not as long as its manifest says")
        digest = hashlib.sha256()
        with place(member) as target:
            for chunk in _chunks(tar, header):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != member.sha256:
            raise BackupRefused(path, f"{member.name} is not what its manifest says: the file was damaged or changed")
    if waited:
        raise BackupRefused(path, f"{next(iter(waited))} is missing: the file was cut short")


def _is_plain(header: tarfile.TarInfo) -> bool:
    return header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not header.issparse()


def _chunks(tar: tarfile.TarFile, header: tarfile.TarInfo) -> Iterator[bytes]:
    content = tar.extractfile(header)
    if content is None:
        raise tarfile.ReadError("no content")
    while chunk := content.read(_CHUNK):
        yield chunk
