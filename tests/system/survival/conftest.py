"""The instance that the tests of this folder break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.instance import Instance, running


@pytest.fixture(scope="session")
def victim() -> Iterator[Instance]:
    """An instance of this folder's own: its processes are killed and hang. All its tests run in one worker."""
    with running() as instance:
        yield instance
