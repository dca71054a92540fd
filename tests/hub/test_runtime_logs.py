"""The processes' logs stay small."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard_hub.common.home import Home
from pegboard_hub.runtime.logs import LogRotation

LARGEST = 100


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


@pytest.fixture
def output(home: Home) -> Iterator[int]:
    """A log as a process holds it: open for appending, all its life."""
    handle = os.open(home.log("hub"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    yield handle
    os.close(handle)


def test_a_large_log_is_moved_aside_and_the_process_writes_on_into_an_empty_one(home: Home, output: int) -> None:
    os.write(output, b"a" * LARGEST + b"\n")
    LogRotation(home, LARGEST).look()
    os.write(output, b"b\n")
    old = home.log("hub").with_name("hub.log.1")
    assert home.log("hub").read_bytes() == b"b\n"
    assert old.read_bytes() == b"a" * (LARGEST - 1) + b"\n"
    assert old.stat().st_mode & 0o777 == 0o640


def test_a_small_log_is_left_alone(home: Home, output: int) -> None:
    os.write(output, b"a" * LARGEST)
    LogRotation(home, LARGEST).look()
    assert home.log("hub").stat().st_size == LARGEST


def test_a_bounded_number_of_old_parts_is_kept_the_newest_first(home: Home, output: int) -> None:
    rotation = LogRotation(home, LARGEST, kept=2)
    for sign in b"abcd":
        os.write(output, bytes([sign]) * (LARGEST + 1))
        rotation.look()
    log = home.log("hub")
    assert [log.with_name(f"hub.log.{n}").read_bytes()[:1] for n in (1, 2)] == [b"d", b"c"]
    assert not log.with_name("hub.log.3").exists()


def test_the_access_log_is_left_to_the_edge(home: Home) -> None:
    home.edge_access_log.write_bytes(b"a" * (LARGEST + 1))
    LogRotation(home, LARGEST).look()
    assert home.edge_access_log.stat().st_size == LARGEST + 1


@pytest.mark.usefixtures("output")
def test_a_log_that_cannot_be_copied_keeps_its_lines_and_is_told_once(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    home.log("hub").write_bytes(b"a" * (LARGEST + 1))
    monkeypatch.setattr("pegboard_hub.runtime.logs._copy_end", full)
    rotation = LogRotation(home, LARGEST)
    with caplog.at_level(logging.WARNING):
        rotation.look()
        rotation.look()
    assert home.log("hub").stat().st_size == LARGEST + 1
    assert not home.log("hub").with_name("hub.log.1").exists()
    assert [record.getMessage().endswith("No space left on device") for record in caplog.records] == [True]
