"""Running the official conformance suite against one URL, and reading what it found."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.tools.node import NodeTools

PACKAGE = "@modelcontextprotocol/conformance"
REVISIONS = ("2026-07-28", "2025-11-25")
TIMEOUT_S = 300

NOT_OFFERED = {
    "tasks-": "the Tasks extension is not offered",
    "server-sse-polling": "a broken stream cannot be resumed: servers keep no events",
}
"""Beginnings of scenario names that may fail, because a revision does not require them, with our reason.

Nothing that a revision requires may stand here. Whatever else the suite runs without scoring must pass.
"""


@dataclass(frozen=True)
class Scenario:
    """One scenario's checks by status: SUCCESS, FAILURE, WARNING, SKIPPED, INFO."""

    name: str
    required: bool
    statuses: Counter[str]
    messages: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True when no check failed."""
        return not self.statuses["FAILURE"]

    @property
    def not_offered(self) -> str:
        """Our reason for not offering what this looks at; empty when it must pass."""
        if self.required:
            return ""
        return next((why for start, why in NOT_OFFERED.items() if self.name.startswith(start)), "")


@dataclass(frozen=True)
class Run:
    """What the suite found for one revision's set of requirements.

    Attributes:
        exit_status: the suite's own verdict; 0 when everything required passed.
    """

    revision: str
    exit_status: int
    scenarios: tuple[Scenario, ...]

    @property
    def required(self) -> tuple[Scenario, ...]:
        """What conformance to the revision needs."""
        return tuple(scenario for scenario in self.scenarios if scenario.required)

    @property
    def beyond(self) -> tuple[Scenario, ...]:
        """What the suite ran and did not score."""
        return tuple(scenario for scenario in self.scenarios if not scenario.required)

    @property
    def unexpected(self) -> list[str]:
        """Every failure that nobody announced, and every warning about something required, in words."""
        found = []
        for scenario in self.scenarios:
            bad = not scenario.passed or (scenario.required and scenario.statuses["WARNING"])
            if bad and not scenario.not_offered:
                found.append(f"{scenario.name}: {'; '.join(scenario.messages)}")
        return found


async def run_suite(tools: NodeTools, url: str, revision: str, folder: Path) -> Run:
    """Run one revision's set against `url`, with results and HOME in `folder`.

    Raises:
        TimeoutError: it took longer than `TIMEOUT_S`.
        AssertionError: a scenario that the revision requires was not run.
    """
    results = folder / revision
    command = tools.command("conformance", "server", "--url", url, "--requirements", revision, "-o", str(results))
    with anyio.fail_after(TIMEOUT_S):
        done = await anyio.run_process(command, env=tools.environment(folder), check=False)
    required = _required(tools, revision)
    scenarios = tuple(_read(path, required) for path in sorted(results.glob("server-*/checks.json")))
    missing = required - {scenario.name for scenario in scenarios}
    assert not missing, f"not run: {sorted(missing)}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return Run(revision, done.returncode, scenarios)


def _required(tools: NodeTools, revision: str) -> frozenset[str]:
    """Names of the server scenarios the suite's frozen requirements list."""
    text = (tools.package(PACKAGE) / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    _, _, servers = text.partition("\nserver:\n")
    block, _, _ = servers.partition("\n\n")
    return frozenset(re.findall(r"^  - ([\w-]+)$", block, flags=re.MULTILINE))


def _read(path: Path, required: frozenset[str]) -> Scenario:
    name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", path.parent.name).removeprefix("server-")
    checks = json.loads(path.read_text(encoding="utf-8"))
    messages = tuple(
        f"{check['status']} {check['name']}: {check.get('errorMessage', '')}"
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    )
    return Scenario(name, name in required, Counter(check["status"] for check in checks), messages)
