"""Hostile backups, and hostile servers whose files are backed up: nothing gets out of its folder, and nothing in.

Rules (design, Rules of trust): secrets stay where they are; bad input leaves nothing half-done.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.upkeep import backup
from pegboard_hub.upkeep.archive import write_archive
from pegboard_hub.upkeep.backup import back_up
from pegboard_hub.upkeep.errors import BackupRefused
from pegboard_hub.upkeep.files import working_folder
from pegboard_hub.upkeep.restore import restore
from tests.folders import new_folder
from tests.hub.company import Company, found_company, opened

PRESTO = ServerName("prod", "presto")
MARK = b"written by an attacker"


def silent(_line: str) -> None:
    pass


@contextmanager
def an_instance() -> Iterator[Company]:
    """A company whose hub has run."""
    root = new_folder()
    made = found_company(root)

    async def run() -> None:
        async with opened(made):
            pass

    asyncio.run(run())
    made.home.instance_file.write_text("{}")
    yield made
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def good() -> Iterator[Path]:
    """A good backup."""
    with an_instance() as company:
        yield back_up(company.home, company.home.root.parent / "good.tar.gz", silent).file


@pytest.fixture
def forged(good: Path, tmp_path: Path) -> Forged:
    return Forged(good, tmp_path)


class Forged:
    """A good backup, taken apart so that an attacker can put it together again."""

    def __init__(self, good: Path, root: Path) -> None:
        self.root = root
        self.file = good
        with tarfile.open(self.file) as tar:
            self.members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        self.manifest = json.loads(self.members.pop("manifest.json"))

    def list(self, name: str, content: bytes) -> None:
        """Put a member into the manifest."""
        digest = hashlib.sha256(content).hexdigest()
        self.manifest["members"].append({"name": name, "size": len(content), "sha256": digest})

    def headers(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        """Every entry as an honest tar has it."""
        for name, content in {"manifest.json": json.dumps(self.manifest).encode(), **self.members}.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            yield header, content

    def write(self, entries: Iterator[tuple[tarfile.TarInfo, bytes]]) -> Path:
        """The archive that an operator is given."""
        path = self.root / "forged.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for header, content in entries:
                tar.addfile(header, io.BytesIO(content))
        return path


def added(forged: Forged, name: str, *, listed: bool, **fields: Any) -> Path:
    """A backup with one more entry."""
    if listed:
        forged.list(name, MARK)
    header = tarfile.TarInfo(name)
    header.size = len(MARK) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(header, field, value)
    return forged.write(iter([*forged.headers(), (header, MARK[: header.size])]))


def replaced(forged: Forged, name: str, **fields: Any) -> Path:
    """A backup one of whose members is something else than a plain file."""
    entries = []
    for header, content in forged.headers():
        if header.name == name:
            for field, value in {"size": 0, **fields}.items():
                setattr(header, field, value)
            content = b""
        entries.append((header, content))
    return forged.write(iter(entries))


OUTSIDE = (
    "../escaped",
    "keys/../../escaped",
    "/tmp/pegboard-escaped",  # noqa: S108 - never written
    "keys/..",
    "keys/",
    "keys//x",
    "keys/.hidden",
    "./keys/x",
    "keys/x\n",
    "keys/\u2025/x",
    "secrets/prod.presto/../../../escaped",
    "secrets/prod.presto/a/../../b",
    "secrets/PROD.presto/a",
    "secrets/presto/a",
    "spool/prod.presto/x.jsonl",
    "spool/prod.presto/../1-1-1.jsonl",
    "credentials/prod.presto.json/x",
    "run/operator.token",
    "public/bundle-keys.json",
    "bundles/edge/edge.jws",
    "releases/prod.presto/declaration.json",
    "supervisor.lock",
    "data/other.db",
    "data/pegboard.db-wal",
)
LINKS = {
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "data/pegboard.db"},
    "character device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "block device": {"type": tarfile.BLKTYPE, "devmajor": 8},
    "pipe": {"type": tarfile.FIFOTYPE},
    "folder": {"type": tarfile.DIRTYPE},
    "contiguous file": {"type": tarfile.CONTTYPE},
    "sparse file": {"type": tarfile.REGTYPE, "pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}},
}


def refused(forged: Forged, file: Path, why: str = "") -> None:
    """Refused for this reason, and not because a later wall held."""
    before = {path.name for path in forged.root.iterdir()}
    with pytest.raises(BackupRefused, match=f"nothing was changed.*{why}"):
        restore(file, forged.root / "new", silent)
    assert {path.name for path in forged.root.iterdir()} == before
    assert not Path(OUTSIDE[2]).exists()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("listed", [True, False])
def test_a_member_of_another_name_is_refused_listed_or_not(forged: Forged, name: str, listed: bool) -> None:
    refused(forged, added(forged, name, listed=listed))


@pytest.mark.parametrize("fields", LINKS.values(), ids=LINKS)
def test_what_is_no_plain_file_is_refused(forged: Forged, fields: dict[str, Any]) -> None:
    refused(forged, added(forged, "keys/more.json", listed=True, **fields))
    name = next(name for name in forged.members if name.startswith("keys/"))
    why = "damaged" if "pax_headers" in fields else "is no plain file"
    refused(forged, replaced(forged, name, **fields), why)


def twice(forged: Forged) -> Path:
    entries = list(forged.headers())
    return forged.write(iter([*entries, entries[-1]]))


def listed_twice(forged: Forged) -> Path:
    forged.manifest["members"].append(forged.manifest["members"][0])
    return forged.write(forged.headers())


def changed_key(forged: Forged) -> Path:
    name = next(name for name in forged.members if name.startswith("keys/"))
    forged.members[name] = bytes([forged.members[name][0] ^ 1]) + forged.members[name][1:]
    return forged.write(forged.headers())


def longer_than_listed(forged: Forged) -> Path:
    name = next(name for name in forged.members if name.startswith("keys/"))
    forged.members[name] += b" "
    return forged.write(forged.headers())


def missing_key(forged: Forged) -> Path:
    del forged.members[next(name for name in forged.members if name.startswith("keys/"))]
    return forged.write(forged.headers())


def no_manifest(forged: Forged) -> Path:
    return forged.write(iter(list(forged.headers())[1:]))


def manifest_last(forged: Forged) -> Path:
    first, *rest = forged.headers()
    return forged.write(iter([*rest, first]))


def newer_format(forged: Forged) -> Path:
    forged.manifest["format"] = 2
    return forged.write(forged.headers())


def unknown_fact(forged: Forged) -> Path:
    forged.manifest["run_after"] = "/bin/sh"
    return forged.write(forged.headers())


def negative_size(forged: Forged) -> Path:
    forged.manifest["members"][0]["size"] = -1
    return forged.write(forged.headers())


def a_newer_schema_than_it_says(forged: Forged) -> Path:
    database = forged.root / "newer.db"
    database.write_bytes(forged.members["data/pegboard.db"])
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    return with_database(forged, database.read_bytes())


def database_of_zeros(forged: Forged) -> Path:
    return with_database(forged, bytes(len(forged.members["data/pegboard.db"])))


def with_database(forged: Forged, content: bytes) -> Path:
    forged.members["data/pegboard.db"] = content
    for member in forged.manifest["members"]:
        if member["name"] == "data/pegboard.db":
            member |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return forged.write(forged.headers())


def a_header_that_fills_the_memory(forged: Forged) -> Path:
    """An extended header is read whole by tarfile, and says itself how long it is."""
    path = forged.root / "forged.tar.gz"
    header = tarfile.TarInfo("manifest.json")
    header.type, header.size = tarfile.XHDTYPE, 1 << 34
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    return path


def a_long_name_that_fills_the_memory(forged: Forged) -> Path:
    path = forged.root / "forged.tar.gz"
    header = tarfile.TarInfo("manifest.json")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 34
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    return path


def headers_without_end(forged: Forged) -> Path:
    path = forged.root / "forged.tar.gz"
    record = b"19 comment=aaaaaaa\n"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    with gzip.open(path, "wb") as file:
        for _ in range(20_000):
            file.write(header.tobuf() + record.ljust(512, b"\0"))
    return path


def a_manifest_that_fills_the_memory(forged: Forged) -> Path:
    path = forged.root / "forged.tar.gz"
    header = tarfile.TarInfo("manifest.json")
    header.size = 1 << 40
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    return path


def brackets_without_end(forged: Forged) -> Path:
    text = b"[" * 1_000_000
    header = tarfile.TarInfo("manifest.json")
    header.size = len(text)
    return forged.write(iter([(header, text)]))


FORGERIES: dict[Callable[[Forged], Path], str] = {
    twice: "or twice",
    listed_twice: "lists a member twice",
    changed_key: "is not what its manifest says",
    longer_than_listed: "not as long as its manifest says",
    missing_key: "is missing",
    no_manifest: "does not begin with a manifest.json",
    manifest_last: "does not begin with a manifest.json",
    newer_format: "its format is not the one",
    unknown_fact: "is not as it must be",
    negative_size: "is not as it must be",
    a_newer_schema_than_it_says: "another schema",
    database_of_zeros: "database",
    a_header_that_fills_the_memory: "damaged, or no backup .ValueError",
    a_long_name_that_fills_the_memory: "damaged, or no backup .ValueError",
    headers_without_end: "damaged, or no backup",
    a_manifest_that_fills_the_memory: "does not begin with a manifest.json",
    brackets_without_end: "is not as it must be",
}


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_forged_backup_is_refused_whole_and_for_what_is_wrong_with_it(
    forged: Forged, forge: Callable[[Forged], Path]
) -> None:
    refused(forged, forge(forged), FORGERIES[forge])


def test_a_link_where_the_home_goes_is_not_followed(forged: Forged) -> None:
    victim = forged.root / "victim"
    victim.mkdir()
    (forged.root / "new").symlink_to(victim)
    with pytest.raises(Exception, match="is no folder"):
        restore(forged.file, forged.root / "new", silent, replace=True)
    assert list(victim.iterdir()) == []


def test_nobody_else_can_read_a_backup_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with the widest umask: what is opened anew is closed to others, or lies in a folder that is."""
    modes: dict[str, int] = {}
    really_open = os.open

    def watch(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor = really_open(path, flags, mode, **more)
        if flags & os.O_CREAT:
            modes[str(path)] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    def look(path: Path, *rest: Any) -> None:
        write_archive(path, *rest)
        modes[str(path.parent)] = stat.S_IMODE(path.parent.stat().st_mode)

    with an_instance() as company:
        before = os.umask(0)
        try:
            monkeypatch.setattr(os, "open", watch)
            monkeypatch.setattr(backup, "write_archive", look)
            made = back_up(company.home, tmp_path / "mine.tar.gz", silent)
        finally:
            monkeypatch.undo()
            os.umask(before)
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    [staging] = [path for path, mode in modes.items() if mode == 0o700]
    assert Path(staging).parent == tmp_path
    assert {path for path, mode in modes.items() if mode & 0o077} == set()
    assert modes[f"{staging}/backup"] == 0o600


def test_a_servers_links_bring_nothing_into_the_backup(tmp_path: Path) -> None:
    with an_instance() as company:
        key = next(company.home.keys.iterdir())
        spool = company.home.spool(PRESTO)
        (spool / "00000000000000000001-1-1.jsonl").symlink_to(key)
        os.link(key, spool / "00000000000000000002-1-1.jsonl")
        os.mkfifo(spool / "00000000000000000003-1-1.jsonl")
        (spool / "cursor.json").symlink_to(company.home.keys)
        with (spool / "00000000000000000004-1-1.jsonl").open("wb") as sparse:
            sparse.truncate(1 << 40)
        (spool / "00000000000000000005-1-1.jsonl").write_text('{"kind": "intent"}\n')
        (spool / "00000000000000000006-1-1.jsonl").mkdir()
        state = company.home.state(PRESTO)
        (state / "link").symlink_to(key)
        os.link(key, state / "hard")
        os.mkfifo(state / "pipe")
        (state / "folder").symlink_to(company.home.keys)
        (state / "deep").mkdir()
        (state / "deep" / "file").write_text("not looked at")
        with (state / "sparse").open("wb") as sparse:
            sparse.truncate(1 << 40)
        (state / "own.db").write_text("a table")
        said: list[str] = []
        made = back_up(company.home, tmp_path / "mine.tar.gz", said.append, keys=False)
    states = [member.name for member in made.manifest.members if member.name.startswith("state/")]
    assert states == ["state/prod.presto/own.db"]
    spools = [member.name for member in made.manifest.members if member.name.startswith("spool/")]
    assert spools == ["spool/prod.presto/00000000000000000005-1-1.jsonl"]
    assert sum("left out" in line for line in said) == 6 + 6


WORKS = """
import sys, pathlib
from pegboard_hub.upkeep.files import working_folder
with working_folder(pathlib.Path(sys.argv[1]), "packing") as folder:
    (folder / "private-key").write_text("secret")
    print("there", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".pegboard-packing-link").symlink_to(elsewhere)
    (tmp_path / ".pegboard-restoring-other").mkdir()
    others = {"elsewhere", ".pegboard-packing-link", ".pegboard-restoring-other"}
    command = [sys.executable, "-c", WORKS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as works:
        assert works.stdout is not None
        assert works.stdout.readline() == b"there\n"
        with working_folder(tmp_path, "packing") as mine:
            (theirs,) = {path.name for path in tmp_path.iterdir()} - others - {mine.name}
            assert (tmp_path / theirs / "private-key").exists(), "one at work is left alone"
        works.kill()
    assert (tmp_path / theirs / "private-key").exists()
    with working_folder(tmp_path, "packing"):
        assert not (tmp_path / theirs).exists()
    assert {path.name for path in tmp_path.iterdir()} == others
