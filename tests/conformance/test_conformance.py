"""A server built with the kit speaks MCP as the protocol's own suite wants it, in both eras."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from pegboard.core.record import Intent, Outcome
from tests.conformance.front import PERSON, fixture_behind_front
from tests.conformance.report import PAGE, section
from tests.conformance.suite import NOT_OFFERED, PACKAGE, REVISIONS, Run, Scenario, run_suite
from tests.tools.node import NodeTools, provide

pytestmark = [
    pytest.mark.anyio,
    # The suite looks at logging and sampling too, which the newest revision deprecates.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


@pytest.fixture(scope="session")
def tools() -> NodeTools:
    return provide()


@pytest.mark.parametrize("revision", REVISIONS)
async def test_everything_a_revision_requires_passes(revision: str, tools: NodeTools, tmp_path: Path) -> None:
    async with fixture_behind_front() as (url, hub):
        run = await run_suite(tools, url, revision, tmp_path)
    assert run.unexpected == []
    assert run.exit_status == 0
    assert section(run) in PAGE.read_text(encoding="utf-8"), "run .venv/bin/python -m tests.conformance.report"
    # It was the governed path that conformed: each call stands in the ledger, with its person and its end.
    intents = {record.id: record.who.sub for record in hub.records if isinstance(record, Intent)}
    assert set(intents.values()) == {PERSON}
    assert intents.keys() == {record.id for record in hub.records if isinstance(record, Outcome)}


def test_page_names_the_versions_that_run(tools: NodeTools) -> None:
    text = PAGE.read_text(encoding="utf-8")
    locked = re.search(rf'"{PACKAGE}": "([^"]+)"', (tools.folder / "package.json").read_text(encoding="utf-8"))
    assert locked is not None
    assert f"`{PACKAGE}` {locked[1]}," in text
    assert f"`mcp` {version('mcp')} " in text


@pytest.mark.parametrize("name", [*NOT_OFFERED, "anything-else"])
def test_a_failing_requirement_is_never_expected(name: str) -> None:
    failing = Scenario(name, True, Counter(FAILURE=1), ("FAILURE x: y",))
    assert Run("2026-07-28", 1, (failing,)).unexpected == [f"{name}: FAILURE x: y"]


def test_a_warning_about_a_requirement_is_unexpected() -> None:
    warned = Scenario("tools-list", True, Counter(SUCCESS=1, WARNING=1), ("WARNING x: y",))
    assert Run("2026-07-28", 0, (warned,)).unexpected == ["tools-list: WARNING x: y"]


def test_only_what_is_not_offered_may_fail_unscored() -> None:
    offered = Scenario("json-schema-2020-12", False, Counter(FAILURE=1), ("FAILURE x: y",))
    withheld = Scenario("tasks-lifecycle", False, Counter(FAILURE=1), ("FAILURE x: y",))
    assert Run("2026-07-28", 0, (offered, withheld)).unexpected == ["json-schema-2020-12: FAILURE x: y"]
