"""Call records on the server's own disk, until the hub has them.

A spool is a folder of segments, files of JSON lines that are only appended to, and one cursor that says how far
the hub has acknowledged. Written means handed to the operating system: it survives the death of the process.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.record import Denial, Intent, Outcome

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
CURSOR = "cursor.json"

BATCH_RECORDS = 500
BATCH_BYTES = 2 * 1024 * 1024
"""Of one delivery at most, unless a single record is larger. The hub takes 8 MiB (`ledger/api.py`); text that is
escaped otherwise on its way than on disk may grow."""

NUMBER_DIGITS = 20
"""Of the number that a segment's name begins with."""

RECORD_BYTES = 1024 * 1024
"""The largest record. One that no delivery could carry would hold up all that follow it."""

MOST_OWED = 1000
"""Records that are kept in memory while the disk takes none. Those beyond are lost, and all when the process ends."""

TRY_AGAIN_S = 1.0
"""How often it is tried to write them, in seconds."""


class Spool:
    """The writing side. One process writes one spool; a restart opens a new segment and leaves the old to be read."""

    def __init__(self, folder: Path, digest_key: bytes) -> None:
        self._folder = folder
        self._key = digest_key
        self._file = -1
        self._size = 0
        self._serial = 0
        self._owed: deque[bytes] = deque()

    def write(self, record: Intent | Outcome | Denial) -> None:
        """Append one record with a single write.

        Where somebody deleted the open segment, the record goes into a new one. How a call ended, or that it was
        refused, is written once the disk takes it: somebody's approval may wait for it. A call whose intent cannot be
        written does not run.

        Raises:
            OSError: the disk did not take all of it, the folder is gone, or it is larger than `RECORD_BYTES`.
        """
        line = _line(record)
        try:
            self.pay()
            self._append(line)
        except OSError:
            if not isinstance(record, Intent) and len(self._owed) < MOST_OWED:
                self._owed.append(line)
            raise

    def pay(self) -> None:
        """Append what the disk did not take when it was due.

        Raises:
            OSError: it still does not.
        """
        while self._owed:
            self._append(self._owed[0])
            self._owed.popleft()

    async def run(self) -> None:
        """Pay what is owed as soon as that is possible, until cancelled."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            with suppress(OSError):  # it was told when it was due
                self.pay()

    def _append(self, line: bytes) -> None:
        if self._file < 0 or self._size + len(line) > SEGMENT_BYTES or _is_deleted(self._file):
            self._open_segment()
        written = os.write(self._file, line)
        self._size += written
        if written != len(line):
            # A torn line ends its segment, so that the next record starts clean.
            self.close()
            raise OSError(f"only {written} of {len(line)} bytes of a record were written")

    def digest(self, document: bytes) -> str:
        """Keyed BLAKE2b (RFC 7693 §2.9) of a document, 128 bits, in hex."""
        return hashlib.blake2b(document, key=self._key, digest_size=16).hexdigest()

    def close(self) -> None:
        """Close the open segment."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open_segment(self) -> None:
        self.close()
        self._serial += 1
        name = f"{self._next_number():0{NUMBER_DIGITS}d}-{os.getpid()}-{self._serial}.jsonl"
        self._file = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._size = 0

    def _next_number(self) -> int:
        """The time, and more than every segment so far: the reader's order is by name, and a clock may go back."""
        names = [_read_cursor(self._folder)[0], *_segments(self._folder)]
        return max(time.time_ns(), *(_number(name) + 1 for name in names))


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to deliver, where the cursor goes once they are acknowledged, and whether more stood behind them."""

    records: list[dict[str, object]]
    segment: str
    end: int
    more: bool


class SpoolReader:
    """The reading side: what the hub has not acknowledged yet, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def next(self, limit: int = BATCH_RECORDS, limit_bytes: int = BATCH_BYTES) -> Batch | None:
        """The next records of one segment, at most `limit` and `limit_bytes`; None when everything is acknowledged.

        A segment whose end is reached and that has a successor is removed on the way.
        """
        segment, offset = self._cursor()
        segments = _segments(self._folder)
        for index, name in enumerate(segments):
            start = offset if name == segment else 0
            if name < segment:
                self._remove(name)
                continue
            batch = self._read(name, start, limit, limit_bytes, finished=index + 1 < len(segments))
            if batch is not None:
                return batch
            if index + 1 < len(segments):
                self._remove(name)
        return None

    def acknowledge(self, batch: Batch) -> None:
        """Move the cursor past `batch`, atomically."""
        temporary = self._folder / f"{CURSOR}.new"
        temporary.write_text(json.dumps({"segment": batch.segment, "offset": batch.end}), encoding="utf-8")
        temporary.replace(self._folder / CURSOR)

    def undelivered_bytes(self) -> int:
        """Bytes of the records that the hub has not acknowledged."""
        segment, offset = self._cursor()
        sizes = {path.name: _size(path) for path in self._folder.glob("*.jsonl") if path.name >= segment}
        return sum(sizes.values()) - (offset if segment in sizes else 0)

    def _cursor(self) -> tuple[str, int]:
        return _read_cursor(self._folder)

    def _read(self, name: str, start: int, limit: int, limit_bytes: int, *, finished: bool) -> Batch | None:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            records: list[dict[str, object]] = []
            end = start
            more = finished  # the segment after this one
            while line := file.readline():
                if not line.endswith(b"\n") and not finished:
                    break  # still being written
                if len(records) == limit or (records and end + len(line) - start > limit_bytes):
                    more = True
                    break
                end += len(line)
                try:
                    records.append(_record(line))
                except (ValueError, RecursionError):
                    logger.error("a torn record in %s is skipped", name)
        return Batch(records, name, end, more) if end > start else None

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


def _line(record: Intent | Outcome | Denial) -> bytes:
    """A record as it stands in a segment.

    Raises:
        OSError: it is larger than `RECORD_BYTES`.
    """
    line = record.model_dump_json(exclude_defaults=True, exclude={"kind"}).encode()
    line = b'{"kind":"%s",%s\n' % (record.kind.encode(), line[1:])
    if len(line) > RECORD_BYTES:
        raise OSError(errno.EFBIG, f"a record of {len(line)} bytes is larger than {RECORD_BYTES}")
    return line


def _segments(folder: Path) -> list[str]:
    """Names of the segments, oldest first."""
    return sorted(path.name for path in folder.glob("*.jsonl"))


def _number(name: str) -> int:
    """What a segment's name begins with; 0 where no writer of ours gave it."""
    digits = name[:NUMBER_DIGITS]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0


def _read_cursor(folder: Path) -> tuple[str, int]:
    """The segment that the hub has acknowledged last, and up to which byte."""
    try:
        cursor = json.loads((folder / CURSOR).read_text(encoding="utf-8"))
        return str(cursor["segment"]), int(cursor["offset"])
    except FileNotFoundError:
        return "", 0
    except (ValueError, KeyError, TypeError):
        # Delivered again is harmless, the hub counts a record once; lost is not.
        logger.warning("spool cursor is unreadable: delivering everything again")
        return "", 0


def _is_deleted(file: int) -> bool:
    """Whether somebody deleted an open file: what is written to it would be gone with the process."""
    return os.fstat(file).st_nlink == 0


def _record(line: bytes) -> dict[str, object]:
    """A line of a segment.

    Raises:
        ValueError: it is no record that could be sent.
        RecursionError: it is nested without measure.
    """
    record = json.loads(line, parse_constant=_no_number)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if b"\\u" in line:
        json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and cannot leave
    return record


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # delivered and removed meanwhile
