"""What an operator reads of a start, and what a start is refused for before anything is touched."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import typer

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.detached import release
from pegboard_hub.runtime.options import _own
from pegboard_hub.runtime.preflight import LEAST_ROOM, check_place
from pegboard_hub.runtime.progress import Progress, ProgressHandler
from pegboard_hub.runtime.workshop import _why

Usage = namedtuple("Usage", "total used free")


def test_what_cannot_be_said_on_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        progress = Progress(quiet=False)
        progress.step("one")
        progress.say("two")
        record = logging.LogRecord("pegboard_hub.edge.agent", logging.WARNING, "", 0, "three", (), None)
        ProgressHandler(progress).emit(record)
        monkeypatch.undo()
        assert sys.stdout is not full
        with pytest.raises(OSError, match="No space left"):
            full.write("it is full indeed\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # what is left in the buffer has to go somewhere


def test_a_start_on_a_full_disk_is_refused_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(LEAST_ROOM, 1, LEAST_ROOM - 1))
    with pytest.raises(ConfigurationError, match=r"its disk is full: 15 MiB are free.*; make room"):
        check_place(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [(), ("secrets",), ("lost+found",), ("data", "keys", "run", "instance.json")])
def test_a_home_may_be_prepared_before_its_first_start(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    check_place(tmp_path)


def test_a_home_that_was_started_once_may_hold_what_the_operator_puts_there(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    os.close(preflight.lock(home))
    (home.root / "notes.txt").touch()
    check_place(home.root)
    shutil.rmtree(home.root)


def test_another_s_home_is_refused_with_the_owner_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(typer.BadParameter, match=r"belongs to user \w+, and this is user \w+: run this as user \w+"):
        _own(tmp_path)
    assert _own(tmp_path / "none") == tmp_path / "none"


def test_uv_s_error_is_told_without_what_went_well_before_it() -> None:
    said = [
        "Using CPython 3.11.7",
        "warning: Failed to hardlink files",
        "error: Failed to install: x",
        "  cause: full",
    ]
    assert _why(said) == "error: Failed to install: x |   cause: full"
    assert _why(["nothing", "", "of use"]) == "nothing | of use"


def test_that_nobody_is_to_bring_it_back_is_said_to_be_unwritten_where_it_is(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    home.detached.mkdir()  # no file, so it cannot be unlinked
    assert not release(home)
    home.detached.rmdir()
    assert release(home)
