"""A report in SARIF 2.1.0 (OASIS), which code-scanning pages and editors read."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from pegboard.core.check.model import Report
from pegboard.core.check.rules import RULES, Rule
from pegboard.core.publishing import Finding, Severity

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVEL: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def sarif(report: Report, version: str, documentation: str = "") -> dict[str, Any]:
    """The report as a SARIF log.

    Args:
        report: of one project.
        version: of the kit.
        documentation: address of the reference page; each rule's code is an anchor in it.
    """
    used = sorted({each.code for each in report.findings})
    rules = [_rule(RULES[code], documentation) for code in used if code in RULES]
    places = {code: number for number, code in enumerate(code for code in used if code in RULES)}
    driver: dict[str, Any] = {"name": "pegboard check", "semanticVersion": version, "rules": rules}
    if documentation:
        driver["informationUri"] = documentation
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"PROJECT": {"description": {"text": "the project's folder"}}},
        "results": [_result(each, places) for each in report.findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule, documentation: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": rule.code,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": _LEVEL[rule.severity]},
    }
    if documentation:
        said["helpUri"] = f"{documentation}#{rule.code.lower()}"
    return said


def _result(finding: Finding, places: dict[str, int]) -> dict[str, Any]:
    file, _, number = finding.place.rpartition(":")
    name, line = (file, int(number)) if file and number.isdigit() else (finding.place, 0)
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(name), "uriBaseId": "PROJECT"}}
    if line:
        physical["region"] = {"startLine": line}
    text = f"{finding.what}. {finding.fix}" if finding.fix else finding.what
    said: dict[str, Any] = {
        "ruleId": finding.code,
        "level": _LEVEL[finding.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": physical}],
    }
    if finding.code in places:
        said["ruleIndex"] = places[finding.code]
    return said


def _uri(name: str) -> str:
    return quote(name)
