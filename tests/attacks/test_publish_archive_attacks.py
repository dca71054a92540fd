"""Archives of strangers: nothing but files with plain paths comes out of one, and no more than one may hold.

Rule (design §5): an author's code never runs in the hub, and nothing that an author sends reaches the hub's disk by a
path of theirs.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pegboard.core.archive import MOST_FILES, MOST_UNPACKED, ArchiveRefused, File, pack, unpack
from pegboard.core.publishing import LARGEST_SOURCE

Member = tuple[tarfile.TarInfo, bytes]
Pax = dict[str, str] | None


def made(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for info, content in members:
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content) if content else None)
    return gzip.compress(plain.getvalue())


def member(
    path: str,
    content: bytes = b"x",
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
    pax: dict[str, str] | None = None,
) -> Member:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.pax_headers = kind, target, pax or {}
    if kind != tarfile.REGTYPE:
        content = b""
    return info, content


def head(kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"

HOSTILE: list[tuple[str, Callable[[], bytes]]] = [
    ("an absolute path", lambda: made(member("/etc/cron.d/x"))),
    ("a path that climbs out", lambda: made(member("src/../../x"))),
    ("a path that climbs out at once", lambda: made(member("../x"))),
    ("a folder named like the one above", lambda: made(member("src/..", kind=tarfile.DIRTYPE), member("src/../x"))),
    ("a path with an empty part", lambda: made(member("src//x"))),
    ("a path of this folder within", lambda: made(member("src/./x"))),
    ("a path of another system", lambda: made(member("src\\..\\x"))),
    ("a path that ends in a slash", lambda: made(member("src/x/"), member("src/x/"))),
    ("a path with a line end", lambda: made(member("src/x\ny"))),
    ("a path with an escape", lambda: made(member("src/\x1b[2Jx"))),
    ("a path that reads from the right", lambda: made(member("src/\u202egpj.py"))),
    ("a path that is written otherwise than it looks", lambda: made(member("src/e\u0301.py"))),
    ("a path that is no UTF-8", lambda: made(member("src/\udcff.py"), form=tarfile.GNU_FORMAT)),
    ("a path that is too long", lambda: made(member("a/" * 15 + "x" * 200))),
    ("folders that are too deep", lambda: made(member("a/" * 30 + "x"))),
    ("a path of PAX over a plain one", lambda: made(member("src/x", pax={"path": "../../x"}))),
    ("a symbolic link", lambda: made(member("x", kind=tarfile.SYMTYPE, target="/etc/passwd"))),
    ("a link within", lambda: made(member("x", kind=tarfile.SYMTYPE, target="pegboard.toml"))),
    ("a file below a link", lambda: made(member("a", kind=tarfile.SYMTYPE, target="/var"), member("a/x"))),
    ("a hard link", lambda: made(member("x", kind=tarfile.LNKTYPE, target="/etc/shadow"))),
    ("a device", lambda: made(member("x", kind=tarfile.CHRTYPE))),
    ("a block device", lambda: made(member("x", kind=tarfile.BLKTYPE))),
    ("a pipe", lambda: made(member("x", kind=tarfile.FIFOTYPE))),
    ("a sparse file", lambda: made(member("x", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999999"}))),
    ("a file twice", lambda: made(member("x", b"good"), member("x", b"bad"))),
    ("a file twice, once with a dot", lambda: made(member("x", b"good"), member("./x", b"bad"))),
    ("a file that is a folder, too", lambda: made(member("x"), member("x/y"))),
    ("more files than there may be", lambda: made(*(member(f"f{n}") for n in range(MOST_FILES + 1)))),
    (
        "folders without end",
        lambda: made(*(member(f"f{n}", kind=tarfile.DIRTYPE) for n in range(MOST_FILES * 2 + 1))),
    ),
    ("a bomb", lambda: gzip.compress(bytes(MOST_UNPACKED + MOST_FILES * 4096))),
    ("a bomb in a file", lambda: made(member("x", bytes(MOST_UNPACKED + 1)))),
    ("more than may be sent", lambda: bytes(LARGEST_SOURCE + 1)),
    ("a second archive behind the first", lambda: made(member("x")) + made(member("y"))),
    ("something behind the archive", lambda: made(member("x")) + b"#!/bin/sh"),
    ("an archive that is cut off", lambda: made(member("x", bytes(range(256)) * 40))[:-60]),
    (
        "a file that is longer than the archive",
        lambda: gzip.compress(tarfile.TarInfo("x").tobuf()[:124] + b"7" * 388),
    ),
    ("a head that is searched for ever", lambda: gzip.compress(head(tarfile.XHDTYPE, b"1" * 200_000))),
    (
        "a map of a sparse file without end",
        lambda: gzip.compress(head(tarfile.XHDTYPE, SPARSE) + head(tarfile.REGTYPE, bytes(40_000_000))),
    ),
    ("heads within heads", lambda: gzip.compress(head(tarfile.GNUTYPE_LONGNAME, b"x\0") * 3000)),
    (
        "heads for all files",
        lambda: gzip.compress(head(tarfile.XGLTYPE, b"6 a=b\n") * 900 + head(tarfile.REGTYPE, b"")),
    ),
    ("no tar", lambda: gzip.compress(b"pegboard.toml" * 100)),
    ("no gzip", lambda: b"PK\x03\x04" + bytes(100)),
    ("nothing", lambda: b""),
]


@pytest.mark.parametrize("hostile", [make for _, make in HOSTILE], ids=[name for name, _ in HOSTILE])
def test_no_file_comes_out_of(hostile: Callable[[], bytes]) -> None:
    with pytest.raises(ArchiveRefused):
        unpack(hostile())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_changed_in_an_archive_is_refused_or_gives_plain_files(data: st.DataObject) -> None:
    plain = bytearray(gzip.decompress(pack({"pegboard.toml": File(b"name = 'x'"), "src/a.py": File(b"pass", True)})))
    for _ in range(data.draw(st.integers(1, 8))):
        plain[data.draw(st.integers(0, min(len(plain), 3 * 512) - 1))] = data.draw(st.integers(0, 255))
    try:
        files = unpack(gzip.compress(bytes(plain)))
    except ArchiveRefused:
        return
    for path in files:
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(path.split("/"))
    assert unpack(pack(files)) == files


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        unpack(noise)


PATHS = st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.py)?", fullmatch=True), min_size=1, max_size=4).map("/".join)

FILES = st.tuples(st.binary(max_size=200), st.booleans()).map(lambda each: File(*each))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        PATHS, st.tuples(st.binary(max_size=200), st.booleans()).map(lambda each: File(*each)), max_size=8
    )
)
def test_what_is_packed_comes_out_as_it_was_and_is_the_same_bytes_each_time(files: dict[str, File]) -> None:
    try:
        packed = pack(files)
    except ArchiveRefused:
        assert any(f"{path}/" in other for path in files for other in files)
        return
    assert pack(dict(reversed(files.items()))) == packed
    assert unpack(packed) == {path: file for path, file in files.items() if "dist" not in path.split("/")}
