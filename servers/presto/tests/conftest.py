"""Fixtures of prod/presto's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
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
def hub() -> InMemoryHub:
    """The server as it is published in prod, with the groups and surfaces it asks for granted."""
    return InMemoryHub(Path(__file__).parents[1], namespace="prod")
