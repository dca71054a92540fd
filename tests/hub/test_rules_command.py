"""`pegboard rules` against a hub process, at the machine without a login; and a file checked without a hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.cli.app import run
from tests.hub.company import Company
from tests.hub.test_hub_process import Process, arguments
from tests.hub.test_rules import FEW, NO_CALLS, NO_CHAT, file


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def test_at_the_machine_rules_are_previewed_applied_shown_compared_and_reverted(
    hub: Process, company: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"

    def said(*words: str) -> tuple[int, str]:
        status = run(["rules", *words, "--home", str(company.home.root)])
        found = capsys.readouterr()
        return status, found.out + found.err

    assert said("show") == (0, "There are no coarse rules: what is granted is allowed.\n")
    rules.write_text(file(NO_CHAT, FEW))
    status, out = said("preview", str(rules))
    assert (status, "+ [rules.no-chat]" in out, "everything" in out) == (0, True, True)
    status, out = said("apply", str(rules), "--why", "the audit")
    assert (status, "Version 1 of the rules is in force for everybody" in out) == (0, True)
    status, out = said("apply", str(rules), "--why", "again")
    assert (status, "version 1 by operator is in force" in out, "pegboard rules diff 0 1" in out) == (1, True, True)
    _, out = said("show")
    assert "from chat; to prod/presto" in out
    assert "60 in 60 s for each person" in out
    _, text = said("show", "--file")
    rules.write_text(f"{text}\n{NO_CALLS}")
    assert said("apply", str(rules), "--why", "two")[0] == 0
    assert "+ [rules.no-calls]" in said("diff")[1]
    assert said("revert", "--why", "too much")[0] == 0
    found = json.loads(said("history", "--json")[1])["versions"]
    assert [(each["version"], each["reverts_to"], each["why"]) for each in found] == [
        (3, 1, "too much"),
        (2, None, "two"),
        (1, None, "the audit"),
    ]
    assert [each["name"] for each in json.loads(said("show", "--json")[1])["rules"]] == ["few", "no-chat"]
    assert said("show", "no-such-rule")[0] == 2
    rules.write_text(file(NO_CHAT.replace("chat", "fax"), on=3))
    status, out = said("apply", str(rules), "--why", "x")
    assert (status, "unknown surface 'fax'" in out) == (1, True)
    assert json.loads(said("show", "--json")[1])["version"] == 3


def test_a_file_is_checked_without_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(file(NO_CHAT, NO_CALLS))
    assert run(["rules", "check", str(rules)]) == 0
    assert capsys.readouterr().out == "2 rules, and nothing is wrong with them\n"
    rules.write_text('[rules.aa]\neffect = "deny"\nsurface = ["cli"]\n')
    assert run(["rules", "check", str(rules), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "did you mean 'surfaces'?" in error["message"]
    assert "rules.aa.why: missing" in error["message"]
    assert run(["rules", "check", str(rules)]) == 1
    faults = capsys.readouterr().err.splitlines()
    assert faults[0].startswith("rules.aa.why: missing"), "each on a line of its own"
    assert any("rules.toml has 3 faults." in each for each in faults)
    assert run(["rules", "check", str(tmp_path / "none.toml")]) == 2
