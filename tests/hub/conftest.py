"""Fixtures of the hub's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.folders import new_folder
from tests.hub.company import Company, Hub, found_company, opened
from tests.hub.migrating import AddRevisions, adding
from tests.postgres import Postgres
from tests.postgres import running as running_postgres

EMBEDDED = "sqlite"
SERVER = "postgresql"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `both_databases` runs on each: on PostgreSQL among the heavy ones, where the mark says so.

    Stores where hubs meet (races, bounds, changes) do so always; the others speak to the same database layer.
    """
    chosen = any("database_kind" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if chosen or "database_kind" not in metafunc.fixturenames:
        return
    if (mark := metafunc.definition.get_closest_marker("both_databases")) is not None:
        server = pytest.param(SERVER, marks=pytest.mark.heavy) if mark.kwargs.get("heavy") else SERVER
        metafunc.parametrize("database_kind", [EMBEDDED, server], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this worker, for as long as its tests run."""
    with running_postgres() as found:
        yield found


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on: the embedded one, unless it is marked `both_databases`.

    `TEST_DATABASE=postgresql` runs the others there, too, for whoever looks for what the marked ones do not meet.
    """
    return str(getattr(request, "param", os.environ.get("TEST_DATABASE", EMBEDDED)))


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the hub of the test is told of its database; empty for the file in its home."""
    if database_kind == EMBEDDED:
        yield ""
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with postgres.database() as url:
        yield url


@pytest.fixture
def company(database_url: str, request: pytest.FixtureRequest) -> Iterator[Company]:
    """A company; where the test is marked `reviewed`, one whose prod/presto waits for reviews when it differs."""
    root = new_folder()
    found = found_company(root, reviewed=request.node.get_closest_marker("reviewed") is not None)
    found.database_url = database_url
    yield found
    shutil.rmtree(root)


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found


@pytest.fixture(scope="module")
async def asked() -> AsyncIterator[Hub]:
    """One hub for all cases of a module that only ask, and are refused: nothing they do may change it."""
    root = new_folder()
    async with opened(found_company(root)) as found:
        yield found
    shutil.rmtree(root)


@pytest.fixture
def add_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddRevisions:
    """Give this version migrations that it does not have, each a body of `upgrade`."""
    return adding(tmp_path, monkeypatch)
