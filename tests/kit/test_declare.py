"""What an author may declare, and what keeps a server from starting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pegboard import Server, authorize_tool, saves
from pegboard.core.errors import ConfigurationError, DeclarationError
from pegboard.core.manifest import read_manifest
from pegboard.project import load_project
from tests.kit.conftest import MANIFEST


def test_decorators_give_the_function_back_in_any_order(project: Path) -> None:
    server = Server()

    def plain(text: str) -> str:
        """Plain."""
        return text

    def other(text: str) -> str:
        """Other."""
        return text

    assert saves(minutes=3)(authorize_tool(policy="granted")(server.tool()(plain))) is plain
    assert server.tool()(authorize_tool(policy="granted")(saves(minutes=3)(other))) is other
    declared = load_project(project, server).declaration.tools
    assert [(tool.name, tool.policy, tool.minutes_saved) for tool in declared] == [
        ("plain", "granted", 3),
        ("other", "granted", 3),
    ]


def test_every_declaration_says_that_its_kit_asks_for_approvals(project: Path) -> None:
    """Without it the hub would stop each tool that the registry requires an approval for."""
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    def plain(text: str) -> str:
        """Plain."""
        return text

    assert load_project(project, server).declaration.can_ask


def test_tool_that_says_nothing_about_access_does_not_start(project: Path) -> None:
    server = Server()

    @server.tool()
    def open_to_whom() -> str:
        """Nobody knows."""
        return ""

    with pytest.raises(DeclarationError, match="'open_to_whom' says nothing about access"):
        load_project(project, server)


def test_policy_that_does_not_exist_is_named_with_the_nearest(project: Path) -> None:
    server = Server()

    @server.tool()
    @authorize_tool(policy="ads-revenu")
    def revenue() -> str:
        """Revenue."""
        return ""

    with pytest.raises(DeclarationError, match="did you mean 'ads-revenue'"):
        load_project(project, server)


def test_policy_that_waits_for_an_argument_no_tool_has_is_refused(project: Path) -> None:
    server = Server()

    @server.tool()
    @authorize_tool(policy="small-orders")
    def order(amont: int) -> str:
        """Order."""
        return str(amont)

    with pytest.raises(DeclarationError, match="declares argument 'amount', which order lacks; did you mean 'amont'"):
        load_project(project, server)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def x(:\n", "line 1: SyntaxError"),
        ("import json\n1 / 0\n", "line 2: ZeroDivisionError"),
        ("from pegboard import saves\n\n@saves(minutes=-1)\ndef x(): ...\n", "line 3: saves"),
        ("server = 5\n", "is not a pegboard.Server"),
    ],
)
def test_module_that_does_not_load_is_named_with_its_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (project / "broken_desk.py").write_text(code)
    manifest = project / "pegboard.toml"
    manifest.write_text(MANIFEST.replace("desk:server", "broken_desk:server"))
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.delitem(sys.modules, "broken_desk", raising=False)
    with pytest.raises(DeclarationError, match=message):
        load_project(project)


def test_two_policies_on_one_tool_are_refused() -> None:
    with pytest.raises(DeclarationError, match="already names policy 'a'"):
        authorize_tool(policy="b")(authorize_tool(policy="a")(lambda: None))


@pytest.mark.parametrize("minutes", [-1, float("inf"), float("nan")])
def test_minutes_saved_are_a_number_one_can_add_up(minutes: float) -> None:
    with pytest.raises(DeclarationError, match="zero or more"):
        saves(minutes=minutes)


def test_server_without_tools_does_not_start(project: Path) -> None:
    with pytest.raises(DeclarationError, match="declares no tool"):
        load_project(project, Server())


def test_two_tools_of_one_name_do_not_start(project: Path) -> None:
    server = Server()
    for _ in range(2):
        server.tool(name="same")(authorize_tool(policy="granted")(lambda: None))
    with pytest.raises(DeclarationError, match="declared twice"):
        load_project(project, server)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("owner =", "ownr ="), "ownr: unknown key; did you mean 'owner'?"),
        (("surfaces =", "surface ="), "requests.surface: unknown key; did you mean 'surfaces'?"),
        (("[requests]", "[request]"), "request: unknown key; did you mean 'requests'?"),
        (('name = "desk"', 'name = "Desk!"'), "name: has the wrong form; use 2 to 32"),
        (('"cli", "chat"', '"cli", "telepathy"'), "unknown surface 'telepathy'"),
        (("Tests of the kit", "x" * 101), "description: "),
        (('entry = "desk:server"', 'entry = "desk"'), "entry: has the wrong form; it is MODULE:ATTRIBUTE"),
        (('["ads-eng", "finance"]', '"ads-eng"'), "requests.business_groups: must be a list"),
        (('owner = "platform"\n', ""), "owner: missing"),
        (("[requests]", 'secrets = {TOKEN = "abc"}\n[requests]'), "never the secret itself"),
        (("[requests]", "[requests"), "not valid TOML"),
    ],
)
def test_manifest_fault_names_the_key_and_the_mend(project: Path, change: tuple[str, str], message: str) -> None:
    (project / "pegboard.toml").write_text(MANIFEST.replace(*change))
    with pytest.raises(ConfigurationError) as caught:
        read_manifest(project)
    assert message in str(caught.value)


def test_absent_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pegboard\.toml: cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["permit (principal", "", "permit (principal == ?principal, action, resource);"])
def test_policy_file_that_decides_nothing_does_not_start(project: Path, server: Server, text: str) -> None:
    (project / "policies" / "granted.cedar").write_text(text)
    with pytest.raises(ConfigurationError, match=r"policies/granted\.cedar"):
        load_project(project, server)


def test_describe_prints_one_document_even_when_the_author_prints(project: Path) -> None:
    (project / "desk.py").write_text(
        "from pegboard import Server, authorize_tool\n"
        "print('noise on stdout')\n"
        "server = Server()\n"
        "@server.tool()\n"
        "@authorize_tool(policy='granted')\n"
        "def hello(name: str) -> str:\n"
        "    'Greet.'\n"
        "    return name\n"
    )
    command = [sys.executable, "-m", "pegboard.describe", "--project", str(project)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert '"name":"hello"' in done.stdout
    assert "noise" in done.stderr
