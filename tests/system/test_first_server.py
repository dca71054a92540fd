"""The author's tutorial, followed to the letter: from a CSV file to a server that others call and are refused by."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.instance import REPOSITORY, Instance, running
from tests.system.pages import commands, files, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("first-server"), pytest.mark.heavy]

PLACE = "/tmp/first-server"  # noqa: S108 - what the page says; the test has a folder of its own
PAGE = (REPOSITORY / "docs" / "tutorials" / "your-first-server.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with running() as found:
        yield found


def test_the_tutorial_of_an_author_does_what_it_shows(instance: Instance) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    page = PAGE.replace(PLACE, str(folder))
    reader = reader_at(instance)
    reader["PATH"] = f"{REPOSITORY / '.tools' / 'bin'}{os.pathsep}{reader['PATH']}"
    reader.pop("VIRTUAL_ENV", None)
    try:
        for path, text in files(page).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        found = commands(page)
        assert len(found) == page.count("\n```sh")
        for command in found:
            command.follow(REPOSITORY, reader)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
