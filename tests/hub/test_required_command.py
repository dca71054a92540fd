"""`pegboard approvals require | lift | required` against a hub process: at the machine, or by API and page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pegboard.cli.app import run
from tests.hub.company import URL, Company, presto
from tests.hub.test_hub_process import Process, arguments

TOOL = "prod/presto/run_query"
WHY = "a table was dropped by mistake"


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    company.deploy("prod/presto", presto() | {"can_ask": True})
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def test_at_the_machine_approvals_are_required_listed_and_lifted_without_a_login(
    hub: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        status = run(["approvals", *words, "--home", str(company.home.root)])
        return status, *capsys.readouterr()

    assert said("required")[:2] == (0, "")
    status, out, hints = said("require", TOOL, "--by", "data-protection", "--why", WHY, "--within", "4h", "--own")
    assert (status, out) == (0, f"Needs an approval from now on: {TOOL}, by somebody of data-protection\n")
    assert "Nobody is in data-protection, so every call waits until it expires." in hints
    assert said("require", TOOL, "--by", "caller", "--why", "another")[0] == 0, "the machine may loosen it, too"
    (entry,) = json.loads(said("required", "--json")[1])["required"]
    assert (entry["by"], entry["why"], entry["required_by"], entry["expires_s"]) == (
        "caller",
        "another",
        "operator",
        3600,
    )
    assert TOOL in said("required")[1]
    assert said("lift", TOOL, "--why", "the audit is over")[1] == (
        f"Lifted: the registry requires no approval of {TOOL} any more\n"
    )
    assert said("lift", TOOL)[0] == 1
    assert said("require", "prod/presto/none", "--why", WHY)[0] == 1
    events = json.loads(said("required", "--history", "--json")[1])["events"]
    assert [(each["action"], each["why"]) for each in events] == [
        ("lift", "the audit is over"),
        ("require", "another"),
        ("require", WHY),
    ]
    assert "the audit is over" in said("required", "--history")[1]


def test_to_lift_waits_for_a_person_in_a_browser(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["approvals", "lift", TOOL, "--no-browser", "--url", URL, "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (status, error["code"]) == (4, "required_in_a_browser")
    assert error["what_to_do"] == f"Go on there: {URL}/servers/prod/presto/security#approvals"


@pytest.mark.parametrize(
    "words",
    [
        ["require", "prod/presto", "--why", "y"],
        ["require", TOOL],
        ["require", TOOL, "--why", "y", "--within", "soon"],
        ["require", TOOL, "--why", "y", "--within", "8d"],
        ["lift", "../../x"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["approvals", *words]) == 2
    assert capsys.readouterr().out == ""
