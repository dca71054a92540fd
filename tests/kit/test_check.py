"""`pegboard check` says everything that keeps a project from starting or being released, with code, place and fix."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.core.errors import ConfigurationError, DeclarationError
from pegboard.project import load_project
from tests.kit.sarif_schema import check_sarif

MANIFEST = """
name = "checked"
entry = "{module}:server"
description = "Tests of check"
owner = "platform"
support_channel = "#desk"
[requests]
business_groups = ["platform"]
"""
PROJECT = """
[project]
name = "checked"
requires-python = ">=3.11"
dependencies = ["pegboard"]
"""
LOCK = """
version = 1
requires-python = ">=3.11"
[[package]]
name = "checked"
source = { virtual = "." }
dependencies = [{ name = "pegboard" }]
[package.metadata]
requires-dist = [{ name = "pegboard" }]
[[package]]
name = "pegboard"
version = "0.1.0"
source = { registry = "http://localhost:8400/packages/simple/" }
wheels = [{ url = "http://localhost:8400/packages/files/pegboard-0.1.0-py3-none-any.whl" }]
"""
HEAD = """\
from mcp_types import ToolAnnotations
from pegboard import Server, authorize_tool, confirm, requires_approval, saves
print("imported")
server = Server()
"""
READS = '''
@server.tool(annotations=ToolAnnotations(read_only_hint=True))
@authorize_tool(policy="granted")
@saves(minutes=1)
async def look() -> str:
    """Look whether there is anything new at the desk."""
    return ""
'''


def tool(name: str, *above: str, hints: str = "read_only_hint=True", policy: str = "granted") -> str:
    return "\n".join(
        [
            "",
            f"@server.tool(annotations=ToolAnnotations({hints}))",
            *([f'@authorize_tool(policy="{policy}")'] if policy else ()),
            "@saves(minutes=1)",
            *above,
            f"async def {name}(table: str) -> str:",
            '    """Do what a test of the check wants to be done."""',
            '    return ""',
            "",
        ]
    )


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Makes a project of a module's text and files."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(*code: str, manifest: str = MANIFEST, **policies: str) -> Path:
        module = f"checked_{len(names)}"
        names.append(module)
        (tmp_path / f"{module}.py").write_text(HEAD + "".join(code))
        (tmp_path / "policies").mkdir(exist_ok=True)
        for name, text in {
            "granted": 'permit (principal in Group::"platform", action, resource);',
            **policies,
        }.items():
            (tmp_path / "policies" / f"{name}.cedar").write_text(text)
        (tmp_path / "pegboard.toml").write_text(manifest.replace("{module}", module))
        (tmp_path / "pyproject.toml").write_text(PROJECT)
        (tmp_path / "uv.lock").write_text(LOCK)
        return tmp_path

    yield make
    for name in names:
        sys.modules.pop(name, None)


def checked(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, Any]]:
    """The status, and the document with errors and warnings apart."""
    status = run(["check", str(folder), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert all(each["code"] and each["place"] and each["fix"] for each in told["findings"])
    told["problems"] = [each for each in told["findings"] if each["severity"] == "error"]
    told["warnings"] = [each for each in told["findings"] if each["severity"] == "warning"]
    return status, told


def test_a_good_project_would_start(made: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(READS)
    assert run(["check", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "It would start, with 1 tool of about " in err
    status, told = checked(capsys, folder)
    assert (status, told["project"], told["ok"], told["tools"]) == (0, str(folder), True, 1)
    assert (told["problems"], told["warnings"]) == ([], [])
    assert [each["code"] for each in told["findings"]] == ["PB212", "PB804", "PB410"]
    assert told["tokens"]["total"] == told["tokens"]["by_tool"][0]["tokens"] > 20
    assert [each["name"] for each in told["packages"]] == ["pegboard"]


def test_every_problem_of_every_kind_is_said_at_once_with_its_place(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(
        tool("drop", hints="destructive_hint=True"),
        tool("open_to_whom", policy=""),
        tool("typo", policy="grantd"),
        tool("confirms", '@confirm("Go for {tabel}?")'),
        broken="permit",
    )
    status, told = checked(capsys, folder)
    assert status == 1
    assert [(each["code"], each["place"], each["what"].partition(":")[0]) for each in told["problems"]] == [
        ("PB224", "checked_0.py:6", "tool 'drop' is destructive (destructive_hint) and asks nobody"),
        ("PB201", "checked_0.py:13", "tool 'open_to_whom' says nothing about access"),
        (
            "PB201",
            "checked_0.py:19",
            "tool 'typo' names policy 'grantd', but there is no policies/grantd.cedar; did you mean 'granted'?",
        ),
        ("PB224", "checked_0.py:26", told["problems"][3]["what"].partition(":")[0]),
        ("PB301", "policies/broken.cedar", "not valid Cedar"),
    ]
    assert "tabel" in told["problems"][3]["what"]


@pytest.mark.parametrize("above", ['@confirm("Drop {table}?")', "@requires_approval()"])
def test_a_destructive_tool_that_asks_somebody_is_none(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str], above: str
) -> None:
    status, told = checked(capsys, made(tool("drop", above, hints="destructive_hint=True")))
    assert (status, told["problems"], told["warnings"]) == (0, [], [])


@pytest.mark.parametrize(
    ("hints", "warned"),
    [
        ("", True),
        ("read_only_hint=False", True),
        ("idempotent_hint=True", True),
        ("destructive_hint=False", False),
        ("read_only_hint=True", False),
    ],
)
def test_a_tool_that_writes_and_says_nothing_of_destruction_is_warned_of(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str], hints: str, warned: bool
) -> None:
    status, told = checked(capsys, made(tool("keep", hints=hints)))
    assert (status, told["ok"]) == (0, True)
    assert [each["place"] for each in told["warnings"]] == (["checked_0.py:6"] if warned else [])


@pytest.mark.parametrize(
    ("code", "place", "what"),
    [
        ("raise RuntimeError('x')\n", "checked_0.py:5", "RuntimeError: x"),
        ("import no_such_module\n", "pegboard.toml", "Run it in the project's own environment"),
        ("def f(:\n", "checked_0.py:5", "SyntaxError"),
        ("raise SystemExit(3)\n", "pegboard.toml", "ends the process as it is imported (exit 3)"),
        ("server = 1\n", "pegboard.toml", "is not a pegboard.Server"),
        ("", "pegboard.toml", "declares no tool"),
    ],
)
def test_a_module_that_does_not_load_is_placed(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str], code: str, place: str, what: str
) -> None:
    status, told = checked(capsys, made(code))
    assert status == 1
    [problem] = told["problems"]
    assert (problem["code"], problem["place"]) == ("PB102", place)
    assert what in f"{problem['what']} {problem['fix']}"


def test_a_report_is_a_sarif_log_with_its_rules(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(READS, tool("write"), tool("drop", hints="destructive_hint=True"))
    assert run(["check", str(folder), "--sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    check_sarif(log)
    [ran] = log["runs"]
    rules = [rule["id"] for rule in ran["tool"]["driver"]["rules"]]
    found = {result["ruleId"]: result for result in ran["results"]}
    assert found.keys() == set(rules)
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in ran["results"])
    [place] = found["PB224"]["locations"]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "checked_0.py", "uriBaseId": "PROJECT"}
    assert place["physicalLocation"]["region"] == {"startLine": 20}
    assert run(["check", str(folder), "--sarif", "--json"]) == 2


def test_what_does_not_load_is_looked_through_all_the_same(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made("import no_such_module\n", 'KEY = "AKIA" + "QWERTZUIOPASDFGH"\n')
    status, told = checked(capsys, folder)
    assert status == 1
    assert [each["code"] for each in told["problems"]] == ["PB501", "PB102"]


def test_a_folder_that_is_no_project_and_a_wrong_manifest_are_told(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, told = checked(capsys, tmp_path / "nowhere")
    assert (status, told["problems"][0]["place"]) == (1, "pegboard.toml")
    folder = made(READS, manifest=MANIFEST + 'sensitivity = "secret"\nsuport = 1\n')
    status, told = checked(capsys, folder)
    assert {each["place"] for each in told["problems"]} == {"pegboard.toml"}
    assert len(told["problems"]) == 2


def test_what_a_project_prints_and_names_reaches_the_terminal_as_text(
    made: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made("raise RuntimeError('\\x1b[2Jall is well')\n")
    assert run(["check", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert "imported" not in out
    assert "imported" in err


def test_a_start_refuses_what_check_refuses_and_takes_what_it_takes(made: Callable[..., Path]) -> None:
    assert load_project(made(READS)).declaration.tools
    with pytest.raises(DeclarationError, match="'drop' is destructive"):
        load_project(made(tool("drop", hints="destructive_hint=True")))
    with pytest.raises(ConfigurationError, match=r"broken\.cedar"):
        load_project(made(READS, broken="permit"))


def test_a_release_says_that_its_kit_can_ask_for_an_approval(made: Callable[..., Path]) -> None:
    assert load_project(made(READS)).declaration.can_ask
