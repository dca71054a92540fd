"""A backup holds what cannot be made again, and an instance that is restored from it goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pegboard.core.bundle import open_bundle
from pegboard.core.errors import ConfigurationError
from pegboard.core.jose import Verifier, kid_of
from pegboard.core.names import ServerName
from pegboard.core.record import Outcome
from pegboard.remote.spool import Spool
from pegboard_hub.common.home import Home
from pegboard_hub.edge.accesslog import AccessLog
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.runtime import preflight
from pegboard_hub.storage import schema
from pegboard_hub.storage.errors import SchemaTooNew
from pegboard_hub.upkeep import backup, collecting
from pegboard_hub.upkeep.backup import Backup, back_up
from pegboard_hub.upkeep.errors import BackupFailed, BackupRefused, RestoreFailed
from pegboard_hub.upkeep.files import read_own
from pegboard_hub.upkeep.members import KINDS, Part, kind_of
from pegboard_hub.upkeep.restore import restore
from tests.hub.company import Company, call, denial, edge_refusal, opened
from tests.rings import key_in

pytestmark = pytest.mark.anyio

NOW_MS = int(time.time() * 1000)
CHANNEL = "channel-of-prod/presto"
WAITING = Outcome(id="waiting", at_ms=NOW_MS, status="ok", duration_ms=1)


def silent(_line: str) -> None:
    pass


def save(company: Company, name: str = "backup.tar.gz", *, keys: bool = True, secrets: bool = False) -> Backup:
    """A backup beside the home, of an instance as `pegboard up` leaves it."""
    instance = {"port": 8400, "public_url": company.settings.public_url, "grants": str(company.grants)}
    company.home.instance_file.write_text(json.dumps(instance))
    return back_up(company.home, company.home.root.parent / name, silent, keys=keys, secrets=secrets)


def moved(company: Company, home: Path) -> Company:
    """The company on a home that was restored."""
    found = Company(Home.open(home), company.grants)
    shutil.copytree(company.home.root / "releases", home / "releases", dirs_exist_ok=True)  # as `up` makes them
    found.home.operator_token.write_text(company.home.operator_token.read_text())
    return found


async def test_what_was_acknowledged_is_there_afterwards_and_nothing_later_is(company: Company) -> None:
    company.open_channel("prod/presto", "r")
    async with opened(company) as hub:
        await hub.deliver(CHANNEL, *call("done", NOW_MS), denial("no-name", NOW_MS, None))
        await hub.deliver_edge(edge_refusal("at-the-edge", NOW_MS))
        before = await hub.token("ana")
        made = save(company)  # of a running instance
        await hub.deliver(CHANNEL, *call("later", NOW_MS))
    restored = restore(made.file, company.home.root.parent / "new", silent)
    assert restored.moved is None
    async with opened(moved(company, restored.home)) as hub:
        headers = {"Authorization": f"Bearer {before}"}
        assert (await hub.public.get("/api/v1/calls", headers=headers)).status_code == 401, (
            "signed by a key of before"
        )
        headers = {"Authorization": f"Bearer {await hub.token('ana')}"}
        answer = await hub.public.get("/api/v1/calls", headers=headers)
        assert {each["id"] for each in answer.json()["calls"]} == {"done", "at-the-edge"}


async def test_no_backup_holds_a_key_that_signs_and_the_restored_instance_makes_its_own(company: Company) -> None:
    async with opened(company) as hub:
        hub.parts.rotation.begin("tokens")
        made = save(company)
        before = {key.kid for ring in hub.parts.rotation.keys.rings for key in ring.keys}
    with tarfile.open(made.file) as tar:
        names = tar.getnames()
    assert not [name for name in names if "signing" in name]
    assert "keys/sealing.key" in names
    home = restore(made.file, company.home.root.parent / "new", silent).home
    async with opened(moved(company, home)) as hub:
        keys = hub.parts.rotation.keys
        assert not before & {key.kid for ring in keys.rings for key in ring.keys}
        assert kid_of(await hub.token("ana")) == keys.tokens.kid


async def test_a_backup_of_a_version_that_put_signing_keys_in_comes_back_without_them(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(company):
        pass
    old = {kid_in(path) for path in (company.home.token_ring, company.home.bundle_ring)}
    with monkeypatch.context() as older:
        older.setattr(collecting, "SIGNING_KEYS", ())
        made = save(company)
    said: list[str] = []
    restored = moved(company, restore(made.file, company.home.root.parent / "new", said.append).home)
    assert any("the keys that signed then" in line for line in said)
    async with opened(restored) as hub:
        keys = hub.parts.rotation.keys
        assert not old & {keys.tokens.kid, keys.bundles.kid}


def kid_in(path: Path) -> str:
    return str(key_in(path)["kid"])


async def test_a_backup_of_a_stopped_instance_leaves_the_home_as_it_is(company: Company) -> None:
    async with opened(company):
        pass
    company.home.instance_file.write_text("{}")
    before = contents(company.home.root)
    made = back_up(company.home, company.home.root.parent / "stopped.tar.gz", silent)
    assert contents(company.home.root) == before
    assert Part.DATABASE in made.parts


def beside(company: Company) -> set[str]:
    """What lies where the home does."""
    return {path.name for path in company.home.root.parent.iterdir()}


def contents(root: Path) -> dict[str, tuple[int, int, int]]:
    """Size, mode and change time of everything below a folder."""
    found = {path: path.lstat() for path in root.rglob("*")}
    return {str(path): (stat.st_size, stat.st_mode, stat.st_mtime_ns) for path, stat in found.items()}


async def test_consumers_take_the_bundles_of_the_restored_hub_for_newer(company: Company) -> None:
    async with opened(company):
        pass
    made = save(company)
    granted = company.grants.read_text()
    company.grants.write_text(granted.replace('"ads-eng"', '"sales"'))
    async with opened(company):
        pass
    in_use = versions(company.home)
    company.grants.write_text(granted)  # what the backup's bundles say, which are older than those in use
    restored = moved(company, restore(made.file, company.home.root.parent / "new", silent).home)
    async with opened(restored):
        pass
    after = versions(restored.home)
    assert all(after[consumer] >= version for consumer, version in in_use.items())


def versions(home: Home) -> dict[str, int]:
    verifier = Verifier(json.loads(home.bundle_keys.read_text()))
    bundles = {"edge": home.edge_bundle, "prod/presto": home.bundle(ServerName("prod", "presto"))}
    return {name: open_bundle(path.read_text(), verifier, name).version for name, path in bundles.items()}


async def test_undelivered_records_come_along_and_those_delivered_since_count_once(company: Company) -> None:
    company.open_channel("prod/presto", "r")
    spool = company.home.spool(ServerName("prod", "presto"))
    writer = Spool(spool, b"key")
    writer.write(WAITING)
    writer.close()
    (segment,) = spool.glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[:20])  # another is being written
    (spool / "cursor.json").write_text('{"segment": "", "offset": 0}')
    lines = [json.dumps({"request_id": f"line-{number}"}) + "\n" for number in range(4000)]
    company.home.edge_access_log.write_text("".join(lines))
    log = AccessLog(company.home.edge_access_log, company.home.edge / "log.offset")
    delivered, place = log.read()
    log.done(place)
    async with opened(company) as hub:
        await hub.deliver(CHANNEL, denial("no-name", NOW_MS, None))
        made = save(company)
    restored = moved(company, restore(made.file, company.home.root.parent / "new", silent).home)
    again = restored.home.spool(ServerName("prod", "presto"))
    assert (again / segment.name).read_bytes() == whole
    assert (again / "cursor.json").exists()
    rest = restored.home.edge_access_log.read_text()
    assert rest == "".join(lines[len(delivered) :])
    restored.open_channel("prod/presto", "r")
    async with opened(restored) as hub:
        await hub.parts.ledger.tidy()
        await hub.deliver(CHANNEL, denial("no-name", NOW_MS, None))
        async with hub.parts.database.read() as reading:
            counted = (await reading.exec_driver_sql("SELECT sum(count) FROM refusal_counts")).scalar()
        assert counted == 1


async def test_what_a_server_keeps_comes_along_as_it_is(company: Company) -> None:
    server = ServerName("prod", "presto")
    company.open_channel("prod/presto", "r")
    (company.home.state(server) / "own.duckdb").write_bytes(bytes(range(256)) * 1000)
    async with opened(company):
        made = save(company)
    assert Part.STATE in made.manifest.parts()
    restored = restore(made.file, company.home.root.parent / "new", silent).home
    assert (Home.at(restored).state(server) / "own.duckdb").read_bytes() == bytes(range(256)) * 1000


async def test_the_kits_that_releases_were_made_with_come_along(company: Company) -> None:
    kept = Shelf(company.home).keep_current()
    async with opened(company):
        made = save(company)
    there = Home.at(restore(made.file, company.home.root.parent / "new", silent).home)
    found = Shelf(there).of_version(kept.version)
    assert found is not None
    assert (found.digest, found.path) == (kept.digest, there.packages / kept.digest / kept.path.name)


async def test_what_is_counted_is_remembered_though_the_backup_is_old(company: Company) -> None:
    async with opened(company) as hub:
        company.open_channel("prod/presto", "r")
        await hub.deliver(CHANNEL, denial("no-name", NOW_MS, None))
    with closing(sqlite3.connect(company.home.database)) as connection:
        connection.execute("UPDATE counted SET seen_at_ms = 0")
        connection.commit()
    restored = moved(company, restore(save(company).file, company.home.root.parent / "new", silent).home)
    async with opened(restored) as hub:
        await hub.parts.ledger.tidy()
        async with hub.parts.database.read() as reading:
            assert (await reading.exec_driver_sql("SELECT count(*) FROM counted")).scalar() == 1


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({}, {Part.KEYS}, {Part.SECRETS}),
        ({"keys": False}, set(), {Part.KEYS, Part.SECRETS}),
        ({"secrets": True}, {Part.KEYS, Part.SECRETS}, set()),
    ],
)
async def test_keys_and_secrets_are_in_it_as_they_were_asked_for(
    company: Company, options: dict[str, bool], present: set[Part], absent: set[Part]
) -> None:
    async with opened(company):
        pass
    server = ServerName("prod", "presto")
    company.home.secrets(server).mkdir()
    (company.home.secrets(server) / "PASSWORD").write_text(SECRET)
    company.home.credentials(server).write_text(json.dumps({"channel_token": "channel", "digest_key": "ab" * 32}))
    made = save(company, **options)
    assert present <= set(made.parts)
    assert not absent & set(made.parts)
    with tarfile.open(made.file) as tar:
        texts = {name: tar.extractfile(name).read().decode("latin-1") for name in tar.getnames()}  # type: ignore[union-attr]
    held = "".join(texts.values())
    assert (SECRET in held) is (Part.SECRETS in present)
    assert ("keys/sealing.key" in texts) is (Part.KEYS in present)
    assert '"d":' not in held
    assert ("ab" * 32 in held) is (Part.KEYS in present)
    assert '"channel"' not in held
    home = restore(made.file, company.home.root.parent / "new", silent).home
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()}
    assert modes["pegboard.db"] == 0o600
    assert modes.get("sealing.key", 0o600) == 0o600
    assert modes.get("PASSWORD", 0o600) == 0o600
    async with opened(moved(company, home)):
        pass  # it starts with its keys, or makes new ones


def test_every_kind_of_member_is_in_the_table_once() -> None:
    assert {kind.part for kind in KINDS} == set(Part)
    for name in ("data/pegboard.db", "keys/a.json", "spool/prod.presto/1-2-3.jsonl", "secrets/prod.presto/a/b"):
        assert [kind for kind in KINDS if kind.name.fullmatch(name)] == [kind_of(name)]


async def test_a_backup_that_fails_leaves_nothing(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(company):
        pass
    before = beside(company)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("write_archive", "collect"):
        with monkeypatch.context() as patch:
            patch.setattr(backup, broken, full)
            with pytest.raises(BackupFailed, match=r"no backup was made: .*No space left"):
                save(company)
        assert beside(company) == before


async def test_no_backup_is_written_over_and_none_is_made_of_nothing(company: Company) -> None:
    with pytest.raises(BackupFailed, match=r"there is no instance at .*--home"):
        save(company)
    async with opened(company):
        pass
    made = save(company)
    content = made.file.read_bytes()
    with pytest.raises(BackupFailed, match="is there already"):
        save(company)
    assert made.file.read_bytes() == content
    assert made.file.stat().st_mode & 0o777 == 0o600
    nowhere = made.file.parent / "nowhere"
    with pytest.raises(BackupFailed, match=rf"there is no folder {nowhere}: make it"):
        back_up(company.home, nowhere / "backup.tar.gz", silent)


async def test_a_bundle_that_a_server_keeps_in_its_spool_is_left_out_without_a_word(company: Company) -> None:
    async with opened(company):
        pass
    company.home.add_server(ServerName("prod", "presto"))
    kept = company.home.spool(ServerName("prod", "presto")) / "accepted.jws"
    kept.write_text("a bundle")
    said: list[str] = []
    made = back_up(company.home, company.home.root.parent / "backup.tar.gz", said.append)
    assert not [line for line in said if "left out" in line]
    assert kept.name not in {Path(member.name).name for member in made.manifest.members}


async def test_a_home_that_is_in_the_way_is_moved_aside_only_when_told_and_never_while_it_runs(
    company: Company,
) -> None:
    async with opened(company):
        pass
    made, home = save(company), company.home.root
    (home / "mine").write_text("kept")
    with pytest.raises(RestoreFailed, match=r"is not empty.*--replace"):
        restore(made.file, home, silent)
    lock = preflight.lock(company.home)
    try:
        for replace in (False, True):
            with pytest.raises(ConfigurationError, match=f"Pegboard runs on this home, as process {os.getpid()}"):
                restore(made.file, home, silent, replace=replace)
    finally:
        os.close(lock)
    restored = restore(made.file, home, silent, replace=True)
    assert restored.moved is not None
    assert (restored.moved / "mine").read_text() == "kept"
    assert not (home / "mine").exists()
    assert (home / "data" / "pegboard.db").exists()


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def of_another_kind(file: Path) -> None:
    file.write_text("a letter to a friend")


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [damaged, cut_short, of_another_kind, empty])
async def test_a_spoiled_backup_is_refused_and_changes_nothing(
    company: Company, spoil: Callable[[Path], None]
) -> None:
    async with opened(company):
        pass
    made = save(company)
    spoil(made.file)
    before, others = contents(company.home.root), beside(company)
    for home, replace in ((company.home.root, True), (company.home.root.parent / "new", False)):
        with pytest.raises(BackupRefused, match="nothing was changed"):
            restore(made.file, home, silent, replace=replace)
    assert contents(company.home.root) == before
    assert beside(company) == others


async def test_a_backup_of_a_newer_version_is_refused_and_one_of_an_older_is_taken(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(company):
        pass
    made = save(company)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "revisions", lambda: ["0000"])
        patch.setattr("pegboard_hub.upkeep.restore.revisions", lambda: ["0000"])
        with pytest.raises(SchemaTooNew):
            restore(made.file, company.home.root.parent / "new", silent)
    assert not (company.home.root.parent / "new").exists()
    older = Path(__file__).parent / "schemas" / "0001.sql"
    company.home.database.unlink()
    with closing(sqlite3.connect(company.home.database)) as connection:
        connection.executescript(older.read_text())
    home = restore(save(company, "older.tar.gz").file, company.home.root.parent / "older", silent).home
    async with opened(moved(company, home)) as hub:
        assert {each["id"] for each in await hub.calls("ana")} >= {"call-0", "call-1", "call-2"}


async def test_too_little_room_is_said_before_anything_is_unpacked(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(company):
        pass
    made = save(company)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(RestoreFailed, match=r"too little room: .* bytes needed, 0 free"):
        restore(made.file, company.home.root.parent / "new", silent)
    assert not (company.home.root.parent / "new").exists()


def test_a_file_that_is_gone_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    assert read_own(tmp_path / "gone", os.getuid()) is None
