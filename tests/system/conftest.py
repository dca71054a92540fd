"""Fixtures of tests that look at real parts from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.system.chromium import launched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, for all tests of a file."""
    with launched() as found:
        yield found
