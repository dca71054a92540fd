"""What the files and groups of tests share is made once, because one worker gets all of them."""

from __future__ import annotations

import pytest


def test_the_scheduler_is_told_of_groups(request: pytest.FixtureRequest) -> None:
    """xdist learns of a group by the end of a test's id alone: without, everything would start twice."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("there is one process and nothing to schedule")
    assert request.node.nodeid.endswith("@test_groups.py")
