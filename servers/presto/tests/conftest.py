"""Fixtures of prod/presto's tests."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import duckdb
import pytest
from pegboard_presto import generations, own
from pegboard_presto.build import ADS_FILE, OPEN_FILE, build
from pegboard_presto.engine import Engine
from pegboard_presto.limits import Limits
from pegboard_presto.warehouse import ADS_LIMITS, Warehouse

from pegboard.testing import InMemoryHub


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop Pegboard runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both database files."""
    folder = tmp_path_factory.mktemp("data")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def warehouse(data: Path) -> Iterator[Warehouse]:
    """The warehouse with the limits it has in production."""
    opened = Warehouse(Engine(data / OPEN_FILE, Limits()), Engine(data / ADS_FILE, ADS_LIMITS))
    yield opened
    opened.open.close()
    opened.ads.close()


@pytest.fixture
def built_before(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of this process takes the sample tables as they were built once, which costs a second each time."""

    def copied(folder: Path, own_file: Path | None) -> None:
        for name in (OPEN_FILE, ADS_FILE):
            copy(data / name, folder)
        if own_file is not None:
            with duckdb.connect(folder / OPEN_FILE) as database:
                own.load(database, own_file)

    monkeypatch.setattr(generations, "build_apart", copied)


@pytest.fixture
def hub(built_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InMemoryHub:
    """The server as it is published in prod, with the groups and surfaces it asks for granted.

    What people write is kept in `tmp_path` from one client to the next, as over restarts of the server.
    """
    monkeypatch.setenv("PEGBOARD_STATE", str(tmp_path))
    return InMemoryHub(Path(__file__).parents[1], namespace="prod")
