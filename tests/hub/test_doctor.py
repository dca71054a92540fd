"""`pegboard doctor` finds what is wrong, says how to mend it, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pegboard.core.bundle import EDGE, open_bundle
from pegboard.core.jose import Verifier
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.runtime import preflight, procfs
from pegboard_hub.upkeep.checks import machine, place, records, running, trust
from pegboard_hub.upkeep.doctor import CHECKS, examine, gather
from pegboard_hub.upkeep.finding import Finding, State
from tests.hub.company import Company, opened
from tests.ports import free_port
from tests.rings import key_in

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stopped(company: Company) -> Company:
    """A company whose hub ran and was stopped."""
    async with opened(company):
        pass
    settings = {"port": free_port(), "public_url": company.settings.public_url, "grants": str(company.grants)}
    company.home.instance_file.write_text(json.dumps(settings))
    for path in (company.home.operator_token, company.home.status):
        path.unlink(missing_ok=True)
    return company


def look_at(company: Company, check: str, **changes: Any) -> list[Finding]:
    """What one check finds."""
    facts = replace(gather(company.home.root, None, None, offline=True), **changes)
    return [finding for _, finding in examine(facts, {check: CHECKS[check]})]


def worst(company: Company, check: str, **changes: Any) -> Finding:
    return max(look_at(company, check, **changes), key=lambda each: list(State).index(each.state))


async def test_a_stopped_instance_is_well_and_nothing_is_changed(stopped: Company) -> None:
    before = contents(stopped.home.root)
    found = examine(gather(stopped.home.root, None, None, offline=True))
    assert contents(stopped.home.root) == before
    assert {name for name, _ in found} == set(CHECKS)
    assert [finding for _, finding in found if finding.state is State.MEND] == []


def contents(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.lstat() for path in [root, *root.rglob("*")]}
    return {str(path): (stat.st_size, stat.st_mode, stat.st_mtime_ns) for path, stat in found.items()}


def test_before_there_is_an_instance_the_machine_is_looked_at(tmp_path: Path) -> None:
    found = examine(gather(tmp_path / "none", free_port(), None, offline=True))
    assert list(tmp_path.iterdir()) == []
    assert any("there is no instance" in finding.found for _, finding in found)
    wanted = {"python", "programs", "home", "port", "grants"}
    assert {finding.state for name, finding in found if name in wanted} == {State.WELL}


def test_a_machine_with_no_room_for_envoy_s_watches_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "max_user_instances"
    few.write_text("3\n")
    monkeypatch.setattr("pegboard_hub.upkeep.checks.machine.WATCHES", few)
    facts = gather(tmp_path / "none", free_port(), None, offline=True)
    (found,) = [finding for _, finding in examine(facts, {"watches": CHECKS["watches"]})]
    assert found.state is State.WARNING
    assert "sysctl -w fs.inotify.max_user_instances=" in found.mend


def a_key_others_may_read(company: Company) -> None:
    (company.home.keys / "token-signing.jwk.json").chmod(0o644)


def a_key_that_is_none(company: Company) -> None:
    path = company.home.keys / "bundle-signing.jwk.json"
    path.write_text(path.read_text()[:-20])


def a_sealing_key_others_may_read(company: Company) -> None:
    company.home.sealing_key.chmod(0o640)


def a_sealing_key_that_is_none(company: Company) -> None:
    company.home.sealing_key.write_text("nothing")


def a_key_that_is_not_published(company: Company) -> None:
    company.home.bundle_keys.write_text('{"keys": [{"kid": "another"}]}')


def a_folder_of_keys_that_is_open(company: Company) -> None:
    company.home.keys.chmod(0o755)


def a_forged_bundle(company: Company) -> None:
    text = company.home.edge_bundle.read_text()
    company.home.edge_bundle.write_text(text[:-8] + "AAAAAAAA")


def a_bundle_for_another_url(company: Company) -> None:
    instance = json.loads(company.home.instance_file.read_text())
    company.home.instance_file.write_text(json.dumps(instance | {"public_url": "http://localhost:1"}))


def a_newer_schema(company: Company) -> None:
    with contextlib.closing(sqlite3.connect(company.home.database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def a_damaged_database(company: Company) -> None:
    content = bytearray(company.home.database.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    company.home.database.write_bytes(bytes(content))


def a_database_that_is_none(company: Company) -> None:
    company.home.database.write_text("a letter to a friend " * 500)


def a_grants_file_with_a_fault(company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace("groups", "gruops"))


def no_grants_file(company: Company) -> None:
    company.grants.unlink()


def a_clock_that_went_back(company: Company) -> None:
    later = time.time() + 3600
    os.utime(company.home.database, (later, later))


FAULTS: list[tuple[Callable[[Company], None], str, str, str]] = [
    (a_key_others_may_read, "keys", "others may read", "chmod 600"),
    (a_key_that_is_none, "keys", "holds no private key", "restore it"),
    (a_sealing_key_others_may_read, "keys", "others may read the key", "everybody signs in anew"),
    (a_sealing_key_that_is_none, "keys", "holds no key", "restore it"),
    (a_key_that_is_not_published, "keys", "do not have it", "start"),
    (a_folder_of_keys_that_is_open, "home", "open to other users", "chmod 700"),
    (a_forged_bundle, "bundles", "not signed by this hub", "start the hub again"),
    (a_bundle_for_another_url, "bundles", "is for http://localhost:8400", "start"),
    (a_newer_schema, "schema", "has schema 9999", "start the Pegboard version that wrote it"),
    (a_damaged_database, "database", "damaged", "restore a backup"),
    (a_database_that_is_none, "schema", "file is not a database", "restore a backup"),
    (a_grants_file_with_a_fault, "grants", "has a fault", "did you mean 'groups'?"),
    (no_grants_file, "grants", "cannot be read", "--grants"),
    (a_clock_that_went_back, "clock", "the clock went back", "NTP"),
]


@pytest.mark.parametrize(
    ("break_it", "check", "found", "mend"), FAULTS, ids=lambda each: getattr(each, "__name__", "")
)
async def test_what_is_broken_is_found_with_its_mend(
    stopped: Company, break_it: Callable[[Company], None], check: str, found: str, mend: str
) -> None:
    break_it(stopped)
    finding = worst(stopped, check)
    assert finding.state is State.MEND
    assert found in finding.found
    assert mend in finding.mend


async def test_a_ring_of_a_newer_version_is_named_with_what_to_do(stopped: Company) -> None:
    document = json.loads(stopped.home.token_ring.read_text())
    stopped.home.token_ring.write_text(json.dumps(document | {"format": 2}))
    finding = worst(stopped, "keys")
    assert (finding.state, "of format '2'" in finding.found) == (State.MEND, True)
    assert "run the version that wrote it" in finding.mend


async def test_a_rotation_that_waits_is_seen_and_one_that_was_just_begun_is_not_held_against_it(
    stopped: Company,
) -> None:
    open_keys(stopped.home).tokens.add_next(time.time())
    running = {**gather(stopped.home.root, None, None, offline=True).status, "running": True}
    assert worst(stopped, "keys", status=running).state is State.WELL
    later = worst(stopped, "keys", status=running, now=time.time() + 1200)
    assert later.state is State.WARNING
    assert "the rotation has waited for 20 minutes" in later.found
    assert "pegboard keys list" in later.mend
    states = [finding.found for finding in look_at(stopped, "keys")]
    assert "is the next one" in states[0]


async def test_the_single_key_of_an_older_version_is_well(stopped: Company) -> None:
    stopped.home.token_ring.write_text(json.dumps(key_in(stopped.home.token_ring)))
    assert {finding.state for finding in look_at(stopped, "keys")} == {State.WELL}


async def test_a_taken_port_is_named_with_its_holder(stopped: Company) -> None:
    port = json.loads(stopped.home.instance_file.read_text())["port"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        finding = worst(stopped, "port")
    assert finding.state is State.MEND
    assert f"port {port} is taken by process {os.getpid()}" in finding.found


@pytest.fixture
def held(stopped: Company) -> Iterator[Company]:
    """An instance whose supervisor has its home, and says nothing."""
    lock = preflight.lock(stopped.home)
    yield stopped
    os.close(lock)


async def test_a_supervisor_that_hangs_is_found(held: Company) -> None:
    held.report(at=time.time() - 60, processes=[], supervisor={"pid": os.getpid(), "since": 0})
    assert "does not report any more" in worst(held, "processes").found
    assert "nobody that can be seen listens" in worst(held, "port").found


async def test_a_process_that_is_down_or_came_back_is_told(held: Company) -> None:
    down = {"name": "prod/presto", "state": "down", "pid": None, "since": 0, "restarts": 3, "last_error": "ended"}
    failure = {"what": "was killed by SIGKILL", "at": time.time() - 60}
    back = {"name": "hub", "state": "live", "pid": 1, "since": 0, "restarts": 1, "last_failure": failure}
    supervisor = {"pid": os.getpid(), "since": 0}
    held.report(at=time.time(), started=1, supervisor=supervisor, servers={"prod/x": "x"}, processes=[down, back])
    told = [finding.found for finding in look_at(held, "processes")]
    assert told[0] == "prod/presto is down: it ended"
    assert re.match(r"hub was started again 6\d s ago: it was killed by SIGKILL", told[1])
    assert told[2] == "prod/x is being prepared"


@pytest.mark.parametrize(
    ("standing", "state", "found"),
    [
        ("reporting", State.WELL, "the prober reports, on 2 servers"),
        ("silent", State.MEND, r"the prober has not reported for 3\d s: the state of every server is unknown"),
    ],
)
async def test_a_silent_prober_is_found(
    held: Company, monkeypatch: pytest.MonkeyPatch, standing: str, state: State, found: str
) -> None:
    held.report(at=time.time(), started=1, processes=[], supervisor={"pid": os.getpid(), "since": 0})
    word = {"standing": standing, "heard_at": int((time.time() - 34) * 1000), "servers": 2}
    monkeypatch.setattr(running.HubDoor, "ask", lambda *_: word)
    told = worst(held, "prober")
    assert told.state is state
    assert re.match(found, told.found)


@pytest.mark.parametrize(
    ("servers", "differing", "state", "found"),
    [
        ([], [], State.WELL, "the grants file and the registry agree"),
        (
            [],
            ["dev/scratch"],
            State.WELL,
            "nothing of the grants file conflicts with the registry, which has decided otherwise since and holds, on "
            "dev/scratch: `pegboard registry import --dry-run grants.toml` shows both sides",
        ),
        (["prod/presto"], [], State.WARNING, "1 conflict of the grants file with the registry: prod/presto"),
    ],
)
async def test_a_conflict_of_file_and_registry_is_found(
    held: Company,
    monkeypatch: pytest.MonkeyPatch,
    servers: list[str],
    differing: list[str],
    state: State,
    found: str,
) -> None:
    held.report(at=time.time(), started=1, processes=[], supervisor={"pid": os.getpid(), "since": 0})
    word = {"servers": servers, "differing": differing, "grants": "grants.toml"}
    monkeypatch.setattr(running.HubDoor, "ask", lambda *_: word)
    told = worst(held, "conflicts")
    assert (told.state, told.found) == (state, found)


async def test_what_the_home_page_shows_of_the_grants_file_is_found(
    held: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.report(at=time.time(), started=1, processes=[], supervisor={"pid": os.getpid(), "since": 0})
    word: dict[str, Any] = {"fault": "", "unusable": ["conflict"], "conflicts": ["conflict"], "notices": []}
    monkeypatch.setattr(running.HubDoor, "ask", lambda *_: word)
    assert worst(held, "notices").state is State.WELL
    word |= {"unusable": ["prod/x: its declaration", "conflict"], "notices": ["prod/x: group 'y' has no member here"]}
    told = look_at(held, "notices")
    assert [finding.found for finding in told] == ["prod/x: its declaration", "prod/x: group 'y' has no member here"]
    assert {finding.state for finding in told} == {State.WARNING}


@pytest.mark.parametrize(
    ("servers", "state", "found"),
    [
        ({}, State.WELL, "somebody gets into every server that is approved"),
        ({"prod/wiki": "No group is granted."}, State.WARNING, "nobody gets into 1 server: prod/wiki"),
    ],
)
async def test_a_server_into_which_nobody_gets_is_found(
    held: Company, monkeypatch: pytest.MonkeyPatch, servers: dict[str, str], state: State, found: str
) -> None:
    held.report(at=time.time(), started=1, processes=[], supervisor={"pid": os.getpid(), "since": 0})
    monkeypatch.setattr(running.HubDoor, "ask", lambda *_: {"servers": servers})
    told = worst(held, "reach")
    assert (told.state, told.found) == (state, found)
    assert told.mend == "".join(f"{name}: {why}" for name, why in servers.items())


async def test_a_server_that_keeps_the_hub_s_bundles_out_is_found(held: Company) -> None:
    held.report(at=time.time(), processes=[], supervisor={"pid": os.getpid(), "since": 0})
    signer = open_keys(held.home).bundles
    verifier = Verifier(json.loads(held.home.bundle_keys.read_text()))
    bundle = open_bundle(held.home.edge_bundle.read_text(), verifier, EDGE)
    accepted = held.home.edge / "accepted.jws"
    accepted.write_text(bundle.sign(signer))
    assert worst(held, "bundles").state is State.WELL
    accepted.write_text(bundle.model_copy(update={"version": bundle.version + 1}).sign(signer))
    found = worst(held, "bundles")
    assert "no change of grants arrives there" in found.found
    assert str(accepted) in found.mend


async def test_old_bundles_matter_while_it_runs(held: Company) -> None:
    held.report(at=time.time(), processes=[], supervisor={"pid": os.getpid(), "since": 0})
    now = time.time()
    assert worst(held, "bundles").state is State.WELL
    later = worst(held, "bundles", now=now + 3600)
    assert later.state is State.WARNING
    assert "servers with sensitive data refuse, and all once it is 24 hours old" in later.found
    too_late = worst(held, "bundles", now=now + 25 * 3600)
    assert (too_late.state, "every call is refused" in too_late.found) == (State.MEND, True)


async def test_records_that_wait_are_counted_and_matter_while_it_runs(held: Company) -> None:
    held.report(at=time.time(), processes=[], supervisor={"pid": os.getpid(), "since": 0})
    spool = held.home.root / "spool" / "prod.presto"
    (spool / "1-1-1.jsonl").write_text("{}\n{}\n")
    (spool / "2-1-1.jsonl").write_text("{}\n{}\n{}\n")
    (spool / "cursor.json").write_text('{"segment": "2-1-1.jsonl", "offset": 3}')
    assert worst(held, "undelivered").found.startswith("2 records and 0 bytes of the access log wait")
    waited = worst(held, "undelivered", now=time.time() + 120)
    assert waited.state is State.WARNING
    assert "in prod.presto for 2 minutes" in waited.found


@pytest.mark.parametrize(
    ("free", "inodes", "state"),
    [
        (1 << 40, 10**6, "well"),
        (500 << 20, 10**6, "warning"),
        (1 << 20, 10**6, "must be mended"),
        (1 << 40, 3, "must be mended"),
    ],
)
async def test_a_disk_that_fills_up_is_told_before_it_is_full(
    stopped: Company, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, state: State
) -> None:
    counts = (4096, 4096, free // 4096 * 2, free // 4096, free // 4096, 10**6, inodes, inodes, 0, 255)
    monkeypatch.setattr(place.os, "statvfs", lambda _: os.statvfs_result(counts))
    assert worst(stopped, "disk").state == state


def pem(path: Path, begins: datetime, ends: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, ends)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


async def test_certificates_are_told_before_they_end(stopped: Company, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    days = [(-1, 90), (-1, 10), (-2, -1), (1, 2)]
    paths = [pem(tmp_path / f"{n}.pem", now + timedelta(a), now + timedelta(b)) for n, (a, b) in enumerate(days)]
    (tmp_path / "none.pem").write_text("no certificate")
    facts = gather(stopped.home.root, None, None, offline=True)
    found = list(trust.certificates(facts, lambda _: [*paths, tmp_path / "none.pem"]))
    assert [each.state for each in found] == ["well", "warning", *["must be mended"] * 3]
    [none] = trust.certificates(facts)
    assert "none are configured" in none.found


async def test_a_check_that_fails_stops_no_other(stopped: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "holder_of_port", lambda _: 1 / 0)
    monkeypatch.setattr(records, "read_grants", lambda *_: 1 / 0)
    found = examine(gather(stopped.home.root, None, None, offline=True))
    assert dict(found)["grants"].found == "this could not be checked (ZeroDivisionError)"
    assert {name for name, _ in found} == set(CHECKS)


def test_an_index_that_is_not_reached_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://me:hunter2@127.0.0.1:{free_port()}/simple")
    facts = gather(tmp_path / "none", free_port(), None, offline=False)
    [finding] = machine.index(facts)
    assert finding.state is State.WARNING
    assert "127.0.0.1" in finding.found
    assert "UV_DEFAULT_INDEX" in finding.mend
    assert "hunter2" not in f"{finding}"
    [finding] = machine.index(gather(tmp_path / "none", free_port(), None, offline=True))
    assert finding.found.startswith("not asked (--offline): http://***@127.0.0.1")
