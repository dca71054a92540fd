"""`pegboard up` on a home of another version: an older one is brought up to date, a newer one is left alone."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard_hub.common.home import Home
from pegboard_hub.storage.copies import copies
from pegboard_hub.storage.schema import Age, revisions, schema_of
from tests.ports import free_port
from tests.system.instance import REPOSITORY, running
from tests.system.runtime_kit import short_folder

pytestmark = [pytest.mark.system, pytest.mark.heavy]

SCHEMAS = REPOSITORY / "tests" / "hub" / "schemas"


@pytest.fixture
def home() -> Iterator[Path]:
    folder = short_folder()
    yield folder / "home"
    shutil.rmtree(folder)


def load(home: Path, revision: str) -> Path:
    database = Home.open(home).database
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript((SCHEMAS / "0001.sql").read_text())
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()
    return database


def up(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pegboard.cli", "up", "--home", str(home), "--port", str(free_port())]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)


def test_a_home_of_a_newer_version_is_refused_before_anything_starts(home: Path) -> None:
    database = load(home, "9999")
    before = database.read_bytes()
    ended = up(home)
    assert ended.returncode == 1
    assert "the database has schema 9999, which this version does not know" in ended.stderr
    assert "restore a backup" in ended.stderr
    assert ended.stdout == ""
    assert database.read_bytes() == before
    assert list((home / "log").iterdir()) == []


def test_a_database_that_cannot_be_read_is_named(home: Path) -> None:
    Home.open(home).database.write_text("this is no database, and long enough to be looked at as one " * 20)
    ended = up(home)
    assert ended.returncode == 1
    assert "pegboard.db cannot be read: file is not a database" in ended.stderr


@pytest.mark.skipif(len(revisions()) == 1, reason="there is no second revision of the schema yet")
def test_a_home_of_an_older_version_is_brought_up_to_date_and_told(home: Path) -> None:
    database = load(home, "0001")
    grants = home.parent / "grants.toml"
    grants.write_text("")
    with running("--grants", str(grants), expected={"hub", "edge"}, home=home) as instance:
        said = instance.said
    assert f"the database is brought from schema 0001 to {revisions()[-1]}; a copy is kept in {home}/data" in said
    assert schema_of(database).age is Age.CURRENT
    assert [schema_of(copy).found for copy in copies(database)] == ["0001"]
