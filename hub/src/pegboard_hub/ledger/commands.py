"""`pegboard ledger verify`: the operator's own count of the ledger."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pegboard_hub.common.database_url import EMBEDDED, FILE_VARIABLE, VARIABLE, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import server_of
from pegboard_hub.ledger.verify import CannotVerify, Verdict, verify_server
from pegboard_hub.ledger.verify import verify as count_again

MOST_FINDINGS = 50
"""Findings that are printed for people; `--json` has them all."""


def verify(
    home: Annotated[Path, typer.Option(envvar="PEGBOARD_HOME", help="Folder of the instance's state.")] = Path(
        ".pegboard"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Count the ledger again from its rows, and name what does not hold.

    It reads the database of an instance on this machine, which may be running or not, and changes nothing. It holds
    that an outcome belongs to an intent, that no call is there twice, that nothing ran which the edge refused, and
    that the figures which pages show are those of the rows. The exit status is 1 when something does not hold.

    \b
    Example:
      pegboard ledger verify
      pegboard ledger verify --home /srv/pegboard --json
    """
    verdict = _counted(Home.at(home))
    if as_json:
        document = {
            "calls": verdict.calls,
            "without_outcome": verdict.without_outcome,
            "findings": [finding._asdict() for finding in verdict.findings],
        }
        print(json.dumps(document, indent=2))
    else:
        _print(verdict)
    raise typer.Exit(1 if verdict.findings else 0)


def _counted(home: Home) -> Verdict:
    url = read_database_url(os.environ)
    if url not in (None, EMBEDDED):
        return verify_server(str(url), _tell)
    if (server := server_of(home)) and url is None:
        raise CannotVerify(f"the ledger is in {server}: set {VARIABLE} (or {FILE_VARIABLE}), as for `pegboard up`")
    return count_again(home.database, _tell)


def _tell(rows: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)


def _print(verdict: Verdict) -> None:
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    print(f"{verdict.total:,} {'call or refusal' if verdict.total == 1 else 'calls and refusals'}")
    for status, count in sorted(verdict.calls.items(), key=lambda item: -item[1]):
        print(f"{count:>14,}  {status.replace('_', ' ')}")
    for server, count in sorted(verdict.without_outcome.items()):
        print(f"{server}: {count:,} without an outcome (running, or ended by a crash)")
    for finding in verdict.findings[:MOST_FINDINGS]:
        print(f"✗ {finding.promise}: {finding.what}")
    if (more := len(verdict.findings) - MOST_FINDINGS) > 0:
        print(f"✗ and {more:,} more; --json has them all")
    if not verdict.findings:
        print("✓ every promise holds: outcomes have intents, nothing is there twice, the figures are the rows'")
