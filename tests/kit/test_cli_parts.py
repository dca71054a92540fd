"""The command's parts: reading arguments, cleaning text, plugins, help that is quick, the reference page."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints, version
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli import plugins, reference, render
from pegboard.cli.app import run
from pegboard.cli.arguments import parse_pairs, type_label
from pegboard.cli.exit import ExitStatus, Failure, read_refusal, refused
from pegboard.cli.text import clean, line

REPOSITORY = Path(__file__).parents[2]

SCHEMA: dict[str, Any] = {
    "properties": {
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "map": {"type": "object"},
        "either": {"type": ["integer", "string"]},
        "grain": {"$ref": "#/$defs/Grain"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "loop": {"$ref": "#/$defs/Loop"},
        "open": {},
    },
    "$defs": {"Grain": {"enum": ["day", "week"], "type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}},
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=5", "5"),
        ("text=[1]", "[1]"),
        ("maybe=null", "null"),
        ("count=-5", -5),
        ("share=5", 5),
        ("share=0.5", 0.5),
        ("flag=TRUE", True),
        ("flag=false", False),
        ("list=[1,2]", [1, 2]),
        ('map={"a": {"b": null}}', {"a": {"b": None}}),
        ("either=5", 5),
        ("either=five", "five"),
        ("grain=day", "day"),
        ("limit=null", None),
        ("limit=3", 3),
        ("loop=x", "x"),
        ("open=5", 5),
        ("open=five", "five"),
        ("open=NaN", "NaN"),
    ],
)
def test_value_is_typed_by_the_schema(pair: str, value: object) -> None:
    (read,) = parse_pairs([pair], SCHEMA).values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        (["count=5.5"], "--arg count=5.5: not integer."),
        (["count=true"], "not integer"),
        (["flag=1"], "not boolean"),
        (["share=NaN"], "not number"),
        (["list={}"], "not array"),
        (["map=x"], "not object"),
        (["list=" + "[" * 100_000], "not array"),
        (["text"], "write it as NAME=VALUE"),
        (["=5"], "write it as NAME=VALUE"),
        (["text=a", "text=b"], "given twice"),
        (["cuont=5"], "no argument cuont"),
    ],
)
def test_wrong_value_is_named(pairs: list[str], complaint: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_pairs(pairs, SCHEMA)
    assert caught.value.status is ExitStatus.USAGE
    assert complaint in str(caught.value)


def test_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(Failure) as caught:
        parse_pairs(["cuont=5"], SCHEMA)
    assert caught.value.error["what_to_do"] == "Did you mean count?"


def test_extra_arguments_pass_where_the_schema_lets_them() -> None:
    assert parse_pairs(["new=1"], SCHEMA | {"additionalProperties": True}) == {"new": 1}


def test_type_labels_read_as_words() -> None:
    labels = {name: type_label(each, SCHEMA) for name, each in SCHEMA["properties"].items()}
    assert labels["list"] == "array of integer"
    assert labels["either"] == "integer or string"
    assert labels["limit"] == "integer"
    assert labels["grain"] == "string"
    assert labels["open"] == "any"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain é 漢 🙂 ✓", "plain é 漢 🙂 ✓"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        ("\x1b]52;c;cm0gLXJm", ""),
        ("\x1bc\x1b(0reset", "reset"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("bell\x07 back\x08 null\x00 cr\rx", "bell back null crx"),
        ("\u202eevil\u2066\u200b", "evil"),
        ("half \ud83d", "half "),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_text_of_others_is_cleaned(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_line_is_one_line() -> None:
    assert line("two\n\nerror: lines\x1b[2J") == "two error: lines"


def test_a_document_is_json_whatever_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    render.document({"x": [float("nan"), float("-inf"), 1.5]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"x": [None, None, 1.5]}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "no",
        [],
        {},
        {"layer": "edge"},
        {"code": "x", "message": "y"},
        {"code": 1, "message": "x", "layer": "edge"},
        {"code": "x", "message": "y", "layer": "command"},
    ],
)
def test_what_is_no_refusal_is_not_read_as_one(value: object) -> None:
    assert read_refusal(value) is None


@pytest.mark.parametrize(
    ("code", "http_status", "status"),
    [
        ("access_denied", 403, ExitStatus.DENIED),
        ("unknown_server", 404, ExitStatus.DENIED),
        ("tool_unavailable", None, ExitStatus.DENIED),
        ("unauthenticated", 401, ExitStatus.UNREACHABLE),
        ("server_unavailable", None, ExitStatus.UNREACHABLE),
        ("overloaded", 503, ExitStatus.UNREACHABLE),
    ],
)
def test_refusal_s_exit_status(code: str, http_status: int | None, status: ExitStatus) -> None:
    refusal = read_refusal({"code": code, "message": "No.", "layer": "edge"})
    assert refusal is not None
    assert refused(refusal, http_status).status is status


PLUGIN = '''
"""Adds a command."""
raise_at_import = {broken}
if raise_at_import:
    raise ImportError("nothing here")

def greet(name: str, loud: bool = False) -> None:
    """Greet somebody.

    At length."""
    print(("HELLO " if loud else "hello ") + name)
'''


GROUP_PLUGIN = '''
import typer

tongues = typer.Typer(help="Say it in many.\\n\\nOr few.", add_completion=False, rich_markup_mode=None)


@tongues.command()
def french(name: str) -> None:
    """Say it in French."""
    print(f"bonjour {name}")


@tongues.command()
def german(name: str) -> None:
    """Say it in German."""
    print(f"hallo {name}")
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A distribution's module with a command `greet`, and one called like a command of the kit's own."""
    module = f"plugin_{request.node.callspec.id if hasattr(request.node, 'callspec') else request.node.name}"
    (tmp_path / f"{module}.py").write_text(PLUGIN.format(broken="broken" in request.node.name))
    monkeypatch.syspath_prepend(tmp_path)
    found = [EntryPoint(name, f"{module}:greet", plugins.GROUP) for name in ("greet", "call")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints(found))
    return module


def test_plugin_is_listed_without_being_imported_and_runs(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "greet Greet somebody." in " ".join(capsys.readouterr().out.split())
    assert plugin not in sys.modules
    assert run(["greet", "ana", "--loud"]) == 0
    assert capsys.readouterr().out == "HELLO ana\n"
    assert run(["greet"]) == 2
    assert "pegboard greet --help" in capsys.readouterr().err


def test_plugin_with_several_commands_is_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plugin_group.py").write_text(GROUP_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    found = [EntryPoint("tongues", "plugin_group:tongues", plugins.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints(found))
    assert run(["--help"]) == 0
    assert "tongues Say it in many." in " ".join(capsys.readouterr().out.split())
    assert "plugin_group" not in sys.modules
    assert run(["tongues", "-h"]) == 0
    assert "french" in capsys.readouterr().out
    assert run(["tongues", "french", "ana"]) == 0
    assert capsys.readouterr().out == "bonjour ana\n"
    assert run(["tongues", "klingon"]) == 2


def test_plugin_cannot_take_over_a_command_of_the_kit(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["call", "--help"]) == 0
    assert "Call a tool" in capsys.readouterr().out


def test_broken_plugin_spoils_nothing_but_itself(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert run(["greet", "ana"]) == 1
    assert f"The command greet, which {plugin} adds, does not load: nothing here." in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["call", "--help"]])
def test_help_imports_no_client_and_no_renderer(words: list[str]) -> None:
    code = (
        "import sys\nfrom pegboard.cli.app import run\n"
        f"status = run({words!r})\n"
        "heavy = {'mcp', 'httpx2', 'rich', 'pegboard_hub.runtime.commands'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [[], ["call"], ["greet"]])
def test_h_is_help(plugin: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "-h"]) == 0
    short = capsys.readouterr().out
    assert run([*words, "--help"]) == 0
    assert capsys.readouterr().out == short


def test_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"pegboard {version('pegboard')}\n"


EARLY = """
import os, signal, sys

class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Impatient())
sys.argv = ["pegboard", {command!r}]
from pegboard.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("module", "command"), [("typer", "servers"), ("pegboard.cli.app", "servers"), ("pegboard_hub.runtime", "up")]
)
def test_ctrl_c_while_it_is_still_being_imported_prints_nothing(module: str, command: str) -> None:
    code = EARLY.format(module=module, command=command)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (ExitStatus.INTERRUPTED, "", "")


@pytest.mark.parametrize("command", ["servers", "tools", "call", "token", "whoami", "explain"])
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"pegboard {command}" in capsys.readouterr().out.partition("Example:")[2]


def test_reference_page_is_what_the_command_says() -> None:
    page = (REPOSITORY / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert page == reference.page(), (
        "make it again: .venv/bin/python -m pegboard.cli.reference > docs/reference/cli.md"
    )


def test_an_instance_under_a_name_that_is_not_its_own_is_one_that_cannot_be_reached() -> None:
    refusal = {
        "code": "wrong_host",
        "message": "This host is not served here.",
        "layer": "edge",
        "what_to_do": "Use x",
    }
    assert refused(refusal, 421).status == ExitStatus.UNREACHABLE
