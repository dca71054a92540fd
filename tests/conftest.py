"""Fixtures every suite shares."""

from __future__ import annotations

import os
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


def pytest_report_header() -> str:
    """What of the official registry API's documents this run holds answers to (docs/decisions/0027)."""
    openapi = os.environ.get("MCP_REGISTRY_OPENAPI", "not at hand: MCP_REGISTRY_OPENAPI names a copy")
    return f"official registry API: server.json schema 2025-12-11 of its package; OpenAPI document {openapi}"


# A shell that starts the suite in the background has it ignore Ctrl-C, and every process it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
