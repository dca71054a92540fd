"""The spool that a server's records leave by."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

import pegboard.remote.delivery as delivery_module
from pegboard.core.record import Intent, Outcome, Who
from pegboard.remote.delivery import Delivery
from pegboard.remote.spool import RECORD_BYTES, Batch, Spool, SpoolReader
from tests.sockets import listening, socket_path


def outcome(number: int) -> Outcome:
    return Outcome(id=f"call-{number}", at_ms=number, status="ok", duration_ms=1)


def intent(number: int) -> Intent:
    who = Who(sub="ana", sub_type="person", surface="cli", client_id="c")
    facts = {"tool": "t", "policy": "p", "policy_version": "1", "arguments_digest": "", "arguments_bytes": 0}
    return Intent(id=f"call-{number}", at_ms=number, release="r", who=who, protocol="p", **facts)


class HubDoor:
    """The hub's internal door, real enough: HTTP on a Unix socket, refusing while `away`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.away = False
        self.tokens: set[str] = set()
        self.receipt: bytes | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.tokens.add(dict(scope["headers"])[b"authorization"].decode())
        if not self.away:
            self.seen += [record["id"] for record in json.loads(body)["records"]]
        status = 503 if self.away else 200
        receipt = b'{"accepted": 3, "rejected": []}' if self.receipt is None else self.receipt
        length = str(len(receipt)).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": receipt})


@pytest.fixture
def socket() -> Iterator[Path]:
    with socket_path() as path:
        yield path


@pytest.mark.anyio
async def test_every_record_reaches_the_hub_through_outage_and_restart(tmp_path: Path, socket: Path) -> None:
    door = HubDoor()
    before = Spool(tmp_path, b"k")
    for number in range(3):
        before.write(outcome(number))
    delivery = Delivery(SpoolReader(tmp_path), socket, "token-1")
    with pytest.raises(httpx2.ConnectError):
        await delivery.deliver()
    async with listening(door, socket):
        door.away = True
        assert not await delivery.deliver()
        door.away = False
        assert await delivery.deliver()
        after = Spool(tmp_path, b"k")  # the process started anew
        for number in range(3, 6):
            after.write(outcome(number))
        restarted = Delivery(SpoolReader(tmp_path), socket, "token-1")
        assert await restarted.deliver()
        await restarted.close()
    await delivery.close()
    assert door.seen == [f"call-{number}" for number in range(6)]
    assert door.tokens == {"Bearer token-1"}


@pytest.mark.anyio
async def test_that_records_wait_is_told_once_however_long_the_hub_is_away(
    tmp_path: Path, socket: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "IDLE_S", 0.01)
    monkeypatch.setattr(delivery_module, "LONGEST_WAIT_S", 0.01)
    Spool(tmp_path, b"k").write(outcome(0))
    delivery = Delivery(SpoolReader(tmp_path), socket, "token-1")
    tries = 0

    async def counted() -> bool:
        nonlocal tries
        tries += 1
        raise httpx2.ConnectError("nobody is there")

    monkeypatch.setattr(delivery, "deliver", counted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delivery.run)
        with anyio.fail_after(60):
            while tries < 5:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    await delivery.close()
    assert [record.getMessage() for record in caplog.records if "wait on disk" in record.getMessage()] == [
        "records wait on disk, until the hub takes them: ConnectError"
    ]


@pytest.mark.anyio
async def test_what_is_written_during_a_delivery_waits_for_the_next_one(tmp_path: Path, socket: Path) -> None:
    spool = Spool(tmp_path, b"k")
    door = HubDoor()

    async def busy_door(scope: Any, receive: Any, send: Any) -> None:
        await door(scope, receive, send)
        spool.write(outcome(len(door.seen)))  # a server under load always has one more

    spool.write(outcome(0))
    delivery = Delivery(SpoolReader(tmp_path), socket, "token-1")
    async with listening(busy_door, socket):
        with anyio.fail_after(60):
            assert await delivery.deliver()
            assert await delivery.deliver()
    await delivery.close()
    assert door.seen == ["call-0", "call-1"]


async def deliver_three(folder: Path, socket: Path, receipt: bytes) -> list[str]:
    """Deliver three records, then a fourth, to a hub that answers the three with `receipt`; gives what it saw."""
    door = HubDoor()
    door.receipt = receipt
    spool = Spool(folder, b"k")
    for number in range(3):
        spool.write(outcome(number))
    delivery = Delivery(SpoolReader(folder), socket, "token-1")
    async with listening(door, socket):
        assert await delivery.deliver()
        door.receipt = None
        spool.write(outcome(3))
        assert await delivery.deliver()
    await delivery.close()
    return door.seen


@pytest.mark.anyio
async def test_what_the_hub_cannot_read_is_told_and_holds_up_nothing(
    tmp_path: Path, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"id": "call-1", "kind": "outcome", "problem": "outcome.status: strange", "a later field": 1}
    receipt = json.dumps({"accepted": 1, "rejected": [told]}).encode()
    assert await deliver_three(tmp_path, socket, receipt) == [f"call-{number}" for number in range(4)]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "the hub cannot read outcome call-1: outcome.status: strange",
        "the hub cannot read 1 more records of that delivery",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("receipt", [b'{"accepted": 3}', b'{"accepted": 2}', b"", b"[]", b'{"rejected": 7}'])
async def test_a_hub_of_another_version_does_not_hold_up_delivery(
    tmp_path: Path, socket: Path, caplog: pytest.LogCaptureFixture, receipt: bytes
) -> None:
    assert await deliver_three(tmp_path, socket, receipt) == [f"call-{number}" for number in range(4)]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_torn_last_line_of_a_dead_process_is_skipped_and_the_rest_kept(tmp_path: Path) -> None:
    dead = Spool(tmp_path, b"k")
    dead.write(outcome(1))
    dead.close()
    (segment,) = tmp_path.glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"kind":"outcome","id":"call-')
    reader = SpoolReader(tmp_path)
    first = reader.next()
    assert first is not None
    reader.acknowledge(first)
    assert reader.next() is None  # it might still be being written
    Spool(tmp_path, b"k").write(outcome(2))
    ids = []
    while (batch := reader.next()) is not None:
        ids += [record["id"] for record in batch.records]
        reader.acknowledge(batch)
    assert ids == ["call-2"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_records_of_a_process_that_started_after_the_clock_went_back_are_delivered_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, ids, now = SpoolReader(tmp_path), [], time.time_ns()
    for number, clock_ns in enumerate((now, now - 3_600 * 10**9, now - 7_200 * 10**9)):
        monkeypatch.setattr("pegboard.remote.spool.time.time_ns", lambda clock_ns=clock_ns: clock_ns)
        Spool(tmp_path, b"k").write(outcome(number))
        while (batch := reader.next()) is not None:
            ids += [record["id"] for record in batch.records]
            reader.acknowledge(batch)
        if number == 1:
            next(tmp_path.glob("*.jsonl")).unlink()  # then the cursor alone says how far it was
    assert ids == ["call-0", "call-1", "call-2"]


def test_nothing_is_written_into_a_spool_that_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    spool = Spool(folder, b"k")
    spool.write(outcome(1))
    next(folder.glob("*.jsonl")).unlink()
    spool.write(outcome(2))
    assert _ids(SpoolReader(folder)) == ["call-2"]
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        spool.write(outcome(3))
    folder.mkdir()
    spool.write(outcome(4))
    assert _ids(SpoolReader(folder)) == ["call-3", "call-4"]


def _ids(reader: SpoolReader) -> list[object]:
    batch = reader.next()
    assert batch is not None
    return [record["id"] for record in batch.records]


SPOILT = {
    "other JSON": b"[1]",
    "no JSON": b"\x00\xff\xfe",
    "no number": b'{"kind":"outcome","id":"x","duration_ms":NaN}',
    "half a character": rb'{"kind":"outcome","id":"\ud800"}',
    "without measure": b"[" * 200_000,
    "nothing": b"",
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", SPOILT)
async def test_a_spoilt_line_holds_up_no_record(tmp_path: Path, socket: Path, case: str) -> None:
    spool, door = Spool(tmp_path, b"k"), HubDoor()
    spool.write(outcome(1))
    os.write(spool._file, SPOILT[case] + b"\n")
    spool.write(outcome(2))
    delivery = Delivery(SpoolReader(tmp_path), socket, "token-1")
    async with listening(door, socket):
        assert await delivery.deliver()
    await delivery.close()
    assert door.seen == ["call-1", "call-2"]


@pytest.mark.anyio
async def test_delivery_goes_on_after_a_failure_that_nobody_foresaw(
    tmp_path: Path, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard.remote.delivery.LONGEST_WAIT_S", 0.01)
    reader, door = SpoolReader(tmp_path), HubDoor()
    Spool(tmp_path, b"k").write(outcome(1))
    failures = iter([RuntimeError("can't start new thread"), MemoryError()])
    read = reader.next

    def fails_at_first() -> Batch | None:
        if (failure := next(failures, None)) is not None:
            raise failure
        return read()

    monkeypatch.setattr(reader, "next", fails_at_first)
    delivery = Delivery(reader, socket, "token-1")
    async with listening(door, socket), anyio.create_task_group() as group:
        group.start_soon(delivery.run)
        with anyio.fail_after(60):
            while door.seen != ["call-1"]:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    await delivery.close()


def test_a_batch_of_large_records_stays_within_what_the_hub_takes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, b"k")
    for number in range(150):
        spool.write(outcome(number).model_copy(update={"error_type": "x" * 60_000}))
    reader, ids = SpoolReader(tmp_path), []
    while (batch := reader.next()) is not None:
        assert len(json.dumps(batch.records)) < 8 * 1024 * 1024 / 2
        ids += [record["id"] for record in batch.records]
        reader.acknowledge(batch)
    assert ids == [f"call-{number}" for number in range(150)]


def test_a_record_that_no_delivery_could_carry_is_refused_before_it_is_on_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path, b"k")
    with pytest.raises(OSError, match="larger than"):
        spool.write(outcome(1).model_copy(update={"error_type": "x" * RECORD_BYTES}))
    spool.write(outcome(2))
    batch = SpoolReader(tmp_path).next()
    assert batch is not None
    assert [record["id"] for record in batch.records] == ["call-2"]


@pytest.mark.anyio
async def test_how_a_call_ended_is_written_once_the_disk_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent is not: its call did not run. What stands in half a line is written anew, and once."""
    spool, write = Spool(tmp_path, b"k"), os.write
    spool.write(outcome(1))
    room = [20]

    def full(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(file, data[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for record in (outcome(2), intent(3), outcome(4)):
            with pytest.raises(OSError, match=r"written|space"):
                spool.write(record)
    assert told(tmp_path) == ["call-1"]
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run)
        with anyio.fail_after(60):
            while told(tmp_path) != ["call-1", "call-2", "call-4"]:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    spool.write(outcome(5))
    assert told(tmp_path) == ["call-1", "call-2", "call-4", "call-5"]


def told(folder: Path) -> list[str]:
    """The ids of all whole records of a spool, in order."""
    found = []
    for segment in sorted(folder.glob("*.jsonl")):
        lines = segment.read_bytes().splitlines(keepends=True)
        found += [json.loads(line)["id"] for line in lines if line.endswith(b"\n")]
    return found


def test_unreadable_cursor_delivers_again_rather_than_not_at_all(tmp_path: Path) -> None:
    Spool(tmp_path, b"k").write(outcome(1))
    reader = SpoolReader(tmp_path)
    batch = reader.next()
    assert batch is not None
    reader.acknowledge(batch)
    (tmp_path / "cursor.json").write_text("{")
    assert reader.next() == batch


def test_equal_documents_have_equal_digests_under_one_key_only() -> None:
    one, same, other = Spool(Path(), b"a"), Spool(Path(), b"a"), Spool(Path(), b"b")
    assert one.digest(b"x") == same.digest(b"x") != other.digest(b"x")
    assert one.digest(b"y") != one.digest(b"x")
