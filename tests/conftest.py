"""Fixtures every suite shares."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

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


SLOWEST_FIRST = {"system": 0, "conformance": 1, "attacks": 2, "hub": 3}
"""Folders in the order in which workers get them, and then all others: what is left for the end should be short."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a worker whole files, so that what a file's tests share is made once; those of a group stay together."""
    if not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent
    place = {"instance": -1}  # a third of the run, and all of it in one worker
    order = {}
    for item in items:
        file = item.path.relative_to(here)
        mark = item.get_closest_marker("xdist_group")
        group = str(mark.args[0]) if mark else str(file)
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(group))
        order[item] = place.setdefault(group, SLOWEST_FIRST.get(file.parts[0], len(SLOWEST_FIRST)))
    items.sort(key=order.__getitem__)


def pytest_collection_finish() -> None:
    """Leave thousands of collected tests, and what they import, out of later garbage collections.

    Looking through them took a tenth of the run. What tests themselves leave behind is found as before.
    """
    gc.collect()
    gc.freeze()


# A shell that starts the suite in the background has it ignore Ctrl-C, and every process it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
