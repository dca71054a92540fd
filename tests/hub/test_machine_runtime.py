"""This machine keeps what every runtime promises, and what it promises beside that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.hub.machine_rig import MachineRig, Releases, machine
from tests.hub.runtime_suite import *  # noqa: F403
from tests.hub.runtime_suite import ONE, TWO

pytestmark = pytest.mark.anyio

EGRESS = "db.example.com:5432"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
async def rig(releases: Releases) -> AsyncIterator[MachineRig]:
    async with machine(releases) as found:
        await found.ahead((ONE, "a"), (ONE, "b"), (TWO, "a"), (ONE, "a", EGRESS))
        yield found
