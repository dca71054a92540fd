"""Fixtures every suite shares."""

from __future__ import annotations

import signal
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


# A shell that starts the suite in the background has it ignore Ctrl-C, and every process it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
