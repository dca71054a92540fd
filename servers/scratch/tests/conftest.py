"""Fixtures of dev/scratch's tests."""

from pathlib import Path

import pytest

from pegboard.testing import InMemoryHub


@pytest.fixture
def anyio_backend() -> str:
    """The loop Pegboard runs on."""
    return "asyncio"


@pytest.fixture
def hub() -> InMemoryHub:
    """The server as it is published, with the groups and surfaces it asks for granted."""
    return InMemoryHub(Path(__file__).parents[1], namespace="dev")
