"""The check: each subject looks at the whole, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from pegboard.core.check import (
    budget,
    dependencies,
    egress,
    hints,
    manifest,
    names,
    poisoning,
    policies,
    secrets,
    smoke,
    tools,
)
from pegboard.core.check.facts import Known
from pegboard.core.check.model import Report, Subject
from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import Declaration

_SUBJECTS: Final[tuple[Callable[[Subject], Iterable[Finding]], ...]] = (
    manifest.findings,
    names.findings,
    tools.findings,
    budget.findings,
    hints.findings,
    policies.findings,
    dependencies.findings,
    secrets.findings,
    poisoning.findings,
    egress.findings,
    smoke.findings,
)

_OF_FILES: Final = (dependencies.findings, secrets.findings)
"""Those that need nothing but files."""

_NOTHING: Final = Declaration(
    manifest=Manifest(name="none", entry="none:server", description="-", owner="none", support_channel="#none"),
    tools=(),
    policies={},
)

_WEIGHT: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}

MOST_FINDINGS: Final = 500
"""Findings of one check. Whoever has more mends these first."""


def check(subject: Subject) -> Report:
    """Check a release.

    It takes tens of milliseconds for a usual project, and some seconds for the largest that can be submitted: call it
    in a thread where others wait. Never raises, whatever the subject holds.
    """
    return Report(
        findings=_ordered(dict.fromkeys(_all(subject))),
        tokens=budget.costs(subject.declaration),
        packages=dependencies.packages(subject),
    )


def check_files(
    files: Mapping[str, bytes], problems: Iterable[Finding] = (), packages: Known | None = None
) -> Report:
    """Check what can be looked at while the code does not load.

    Args:
        files: the project's.
        problems: what keeps it from loading.
        packages: what is known of locked versions; None: nobody asked.
    """
    subject = Subject(_NOTHING, files=files, packages=packages)
    found = dict.fromkeys([*problems, *(each for look in _OF_FILES for each in look(subject))])
    return Report(findings=_ordered(found), packages=dependencies.packages(subject))


def _ordered(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=_order)[:MOST_FINDINGS])


def _order(finding: Finding) -> tuple[int, str, int, str]:
    file, _, line = finding.place.rpartition(":")
    name, number = (file, int(line)) if file and line.isdecimal() else (finding.place, 0)
    return _WEIGHT[finding.severity], name, number, finding.code


def _all(subject: Subject) -> Iterator[Finding]:
    for look in _SUBJECTS:
        yield from look(subject)
