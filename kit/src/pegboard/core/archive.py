"""A submitted project as one archive, both ways: files in, bytes out, and bytes in, files out. No input or output.

What is packed is deterministic: sorted, without times and owners, regular files alone. What is unpacked is a
stranger's: it is held to the same form, so that no link, device, path or bomb comes out of it. The hub keeps what it
packed anew from what it unpacked: builders read what the hub wrote, and equal projects are equal bytes, whoever
packed them first.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pegboard.core.publishing import LARGEST_SOURCE
from pegboard.core.text import hidden_in

SKIPPED: Final = frozenset(
    {
        ".venv",
        "__pycache__",
        ".git",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".pegboard",
        "node_modules",
        "tests",
        "dist",
    }
)
"""Names of folders and files, at any depth, that no release is made of."""

MOST_FILES: Final = 5_000
MOST_UNPACKED: Final = 128 * 1024 * 1024
"""Bytes of all files together."""

LONGEST_PATH: Final = 200
"""Characters of a file's path."""

MOST_DEEP: Final = 20
"""Folders within one another."""

MOST_HEADS: Final = 1024 * 1024
"""Bytes of all heads that are longer than a block, as those of long paths may be."""

MOST_COMMON: Final = 8
"""Heads that say something of all files after them; `git archive` writes one."""

_BLOCK: Final = 512
_DIGITS: Final = re.compile(rb"[0-9]{33}")


class File(NamedTuple):
    """One file of a project."""

    content: bytes
    executable: bool = False


class ArchiveRefused(ValueError):
    """An archive that is not taken: the message names the file, and what is wrong with it."""


def is_kept(path: str) -> bool:
    """Whether a file belongs to what a release is made of; `path` is relative, with `/`."""
    parts = path.split("/")
    return SKIPPED.isdisjoint(parts) and not path.endswith(".pyc")


def pack(files: Mapping[str, File]) -> bytes:
    """The archive of these files, by path; equal files give equal bytes. What is not kept is left out.

    Raises:
        ArchiveRefused: a path cannot be, or there is too much.
    """
    kept = {path: file for path, file in files.items() if is_kept(path)}
    _check_tree(kept)
    if sum(len(file.content) for file in kept.values()) > MOST_UNPACKED:
        raise _too_much()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(kept):
            info = tarfile.TarInfo(path)
            info.size = len(kept[path].content)
            info.mode = 0o755 if kept[path].executable else 0o644
            tar.addfile(info, io.BytesIO(kept[path].content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=0) as compressed:
        compressed.write(plain.getvalue())
    if len(packed.getvalue()) > LARGEST_SOURCE:
        raise ArchiveRefused(f"it is larger than {LARGEST_SOURCE // 2**20} MiB; leave out what no release needs")
    return packed.getvalue()


def unpack(archive: bytes) -> dict[str, File]:
    """The files of an archive, by path. What is not kept is left out.

    Raises:
        ArchiveRefused: it is no archive, unfolds too far, or holds anything but files with plain paths.
    """
    if len(archive) > LARGEST_SOURCE:
        raise ArchiveRefused(f"it is larger than {LARGEST_SOURCE // 2**20} MiB; leave out what no release needs")
    found: dict[str, File] = {}
    try:
        plain = _plain(archive)
        with tarfile.open(fileobj=_Heads(plain), mode="r:", errorlevel=2) as tar:
            for info in _members(tar):
                path = info.name.removeprefix("./")
                _check_kind(info, path)
                if info.isdir():
                    continue
                _check_path(path)
                if path in found:
                    raise ArchiveRefused(f"{_shown(path)} is in it twice")
                # Also of what is left out: how many there are is bounded before anything is kept of them.
                content = plain[info.offset_data : info.offset_data + info.size]
                if len(content) != info.size:
                    raise ArchiveRefused("it is cut off")
                found[path] = File(content, bool(info.mode & 0o100))
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError, zlib.error) as error:
        if isinstance(error, ArchiveRefused):
            raise
        raise ArchiveRefused("it is no tar archive packed with gzip") from error
    kept = {path: file for path, file in found.items() if is_kept(path)}
    _check_tree(kept)
    return kept


def _plain(archive: bytes) -> bytes:
    """What gzip packed, and nothing after it.

    Raises:
        ArchiveRefused: it is not gzip, is cut off, unfolds too far, or something follows.
    """
    unpacking = zlib.decompressobj(wbits=31)
    # Heads and padding: three blocks a file at most, with one that says a long path.
    most = MOST_UNPACKED + MOST_FILES * 6 * _BLOCK + 20 * _BLOCK
    try:
        plain = unpacking.decompress(archive, most)
    except zlib.error as error:
        raise ArchiveRefused("it is not packed with gzip") from error
    if not unpacking.eof:
        raise _too_much() if unpacking.unconsumed_tail else ArchiveRefused("it is cut off")
    if unpacking.unused_data:
        raise ArchiveRefused("something follows the archive")
    return plain


class _Heads(io.BytesIO):
    """An archive of which heads alone are read. What tarfile would take for ever to read is refused: it looks for a
    record by its digits in the square of their number (CVE-2024-6232), and for the end of a sparse file's map so.
    """

    def __init__(self, plain: bytes) -> None:
        super().__init__(plain)
        self._long = self._common = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next part of a head.

        Raises:
            ArchiveRefused: no plain archive has such a head.
        """
        found = super().read(size)
        self._common += found[156:157] == tarfile.XGLTYPE and found[257:262] == b"ustar"
        if len(found) > _BLOCK:
            self._long += len(found)
        if self._long > MOST_HEADS or self._common > MOST_COMMON or (len(found) > _BLOCK and _DIGITS.search(found)):
            raise ArchiveRefused("it says more about its files than any archive needs")
        if b"GNU.sparse" in found:
            raise ArchiveRefused("it holds a sparse file")
        return found


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    count = 0
    while (info := tar.next()) is not None:
        count += 1
        if count > MOST_FILES * 2:
            raise _too_many()
        yield info
        # tarfile keeps every member; nothing here asks for one by name.
        tar.members.clear()  # type: ignore[attr-defined]


def _check_kind(info: tarfile.TarInfo, path: str) -> None:
    if info.issym() or info.islnk():
        raise ArchiveRefused(f"{_shown(path)} is a link; put the file itself there")
    if not (info.isdir() or info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or info.issparse():
        raise ArchiveRefused(f"{_shown(path)} is neither a file nor a folder")
    if info.size < 0 or info.size > MOST_UNPACKED:
        raise _too_much()


def _check_path(path: str) -> None:
    """See to it that a path stays within the project, and is read as what it is.

    Raises:
        ArchiveRefused: it does not.
    """
    parts = path.split("/")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ArchiveRefused(f"{_shown(path)} is not UTF-8") from None
    if not path or path.startswith("/") or "\\" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise ArchiveRefused(f"{_shown(path)} leads out of the project")
    if len(path) > LONGEST_PATH or len(parts) > MOST_DEEP:
        raise ArchiveRefused(f"{_shown(path)} is longer than {LONGEST_PATH} characters, or deeper than {MOST_DEEP}")
    if hidden_in(path) or unicodedata.normalize("NFC", path) != path:
        raise ArchiveRefused(f"{_shown(path)} has characters that are not shown, or are written otherwise")


def _check_tree(files: Mapping[str, File]) -> None:
    if len(files) > MOST_FILES:
        raise _too_many()
    for path in files:
        _check_path(path)
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in files:
                raise ArchiveRefused(f"{_shown(above)} is a file and a folder")


def _too_many() -> ArchiveRefused:
    return ArchiveRefused(f"it holds more than {MOST_FILES} files; leave out what no release needs")


def _too_much() -> ArchiveRefused:
    return ArchiveRefused(f"it unfolds to more than {MOST_UNPACKED // 2**20} MiB; leave out what no release needs")


def _shown(path: str) -> str:
    return ascii(path[:100])
