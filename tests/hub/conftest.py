"""Fixtures of the hub's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.hub.company import Company, Hub, found_company, opened


@pytest.fixture
def company() -> Iterator[Company]:
    # Not tmp_path: sockets live under the home, and their paths must be short.
    root = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found
