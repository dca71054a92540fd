"""Fixtures every suite shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.instance import Instance, running


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pegboard() -> Iterator[Instance]:
    """One running Pegboard, on real parts. All tests that use it run in one worker (`xdist_group`)."""
    with running() as instance:
        yield instance
