"""One running Pegboard for the suite, on real parts. All tests that use it run in one worker (`xdist_group`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.instance import Instance, running


@pytest.fixture(scope="session")
def pegboard() -> Iterator[Instance]:
    with running() as instance:
        yield instance
