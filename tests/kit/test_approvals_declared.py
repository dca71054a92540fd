"""What an author may declare about people in the loop, and what `load_project` refuses, each with the mend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp_types import ToolAnnotations
from pydantic import BaseModel

from pegboard import Server, authorize_tool, confirm, requires_approval
from pegboard.core.errors import DeclarationError
from pegboard.core.release import Declaration
from pegboard.declare import facts_of
from pegboard.project import Project, load_project

DESTROYS = ToolAnnotations(destructive_hint=True)


def load(project: Path, *decorators: Callable[[Any], Any], annotations: ToolAnnotations | None = None) -> Project:
    server = Server()

    async def drop(tables: list[str], why: str = "", at: int = 0) -> str:
        """Drop."""
        return why

    for decorate in (authorize_tool(policy="granted"), *decorators, server.tool(annotations=annotations)):
        drop = decorate(drop)
    return load_project(project, server)


def test_decorators_note_facts_and_give_the_function_back() -> None:
    def tool() -> None: ...

    assert requires_approval(by="owner", expires=timedelta(hours=2))(tool) is tool
    assert confirm("Sure?")(tool) is tool
    facts = facts_of(tool)
    assert facts.approval is not None
    assert (facts.approval.by, facts.approval.expires_s) == ("owner", 7200)
    assert facts.confirmation is not None


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: requires_approval(expires=1), "60 seconds to 7 days"),
        (lambda: requires_approval(expires=timedelta(days=8)), "60 seconds to 7 days"),
        (lambda: requires_approval(expires=float("nan")), "60 seconds to 7 days"),
        (lambda: requires_approval(by="Not A Group"), "business group"),
        (lambda: requires_approval(why="x" * 501), "500 characters"),
        (lambda: confirm(" "), "1 to 300"),
        (lambda: confirm("x" * 301), "1 to 300"),
    ],
)
def test_what_cannot_be_asked_is_refused_where_it_is_written(declare: Callable[[], object], says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        declare()


@pytest.mark.parametrize("twice", [requires_approval(), confirm("Sure?")])
def test_a_tool_asks_once(twice: Callable[[Any], Any]) -> None:
    def tool() -> None: ...

    with pytest.raises(DeclarationError, match=r"already|once"):
        twice(twice(tool))


@pytest.mark.parametrize(
    ("decorators", "says"),
    [
        ([], r"asks nobody: add @confirm\(…\) or @requires_approval\(…\)"),
        (
            [requires_approval(when=lambda table: True)],
            r"when=…\) takes 'table', which is no argument .* tables, why",
        ),
        ([requires_approval(preview=lambda rows: "")], "'rows'"),
        ([requires_approval(when=lambda *tables: True)], "by name, not 'tables' by position"),
        ([requires_approval(each="why")], r"each='why'\): name an argument that is a list; lists are tables"),
        ([requires_approval(each="nothing")], "lists are tables"),
        ([confirm("Drop {table}?")], r"\{table\}, which is no argument of the tool: it has at, tables, why"),
        ([confirm("Drop {tables[0]}?")], r"\{tables\[0\]\}, which is no argument"),
        ([confirm("Drop {tables.__class__}?")], "no argument"),
        ([confirm("Drop {}?")], "no argument"),
        ([confirm("Drop {at:,}?")], "plainly"),
        ([confirm("Drop {why!r}?")], "plainly"),
        ([confirm("Drop {tables?")], "write a brace of the text twice"),
        ([confirm("Sure?", when=lambda nobody: True)], "'nobody'"),
        ([requires_approval(why="a\u202eb")], "invisible character"),
        ([confirm("a\u200bb {tables}")], "invisible character"),
    ],
)
def test_a_project_whose_questions_nobody_could_answer_does_not_start(
    project: Path, decorators: list[Callable[[Any], Any]], says: str
) -> None:
    with pytest.raises(DeclarationError, match=says):
        load(project, *decorators, annotations=DESTROYS)


class Sure(BaseModel):
    sure: bool


def _ask() -> Elicit[Sure]:
    return Elicit("Sure?", Sure)


def test_a_tool_that_asks_its_client_itself_cannot_wait_before(project: Path) -> None:
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    @confirm("Sure?")
    async def ask(sure: Annotated[Sure, Resolve(_ask)]) -> str:
        return str(sure)

    with pytest.raises(DeclarationError, match="asks its client itself"):
        load_project(project, server)


async def _looks_up(tables: list[str], ctx: Context[Any, Any]) -> bool:
    return bool(ctx) and bool(tables)


@pytest.mark.parametrize(
    "when",
    [
        lambda: True,
        lambda tables, limit=3: len(tables) > limit,
        lambda **everything: bool(everything),
        _looks_up,
    ],
)
def test_a_condition_takes_what_it_likes_of_the_arguments(project: Path, when: Callable[..., Any]) -> None:
    assert load(project, requires_approval(when=when), annotations=DESTROYS).gates.keys() == {"drop"}


@pytest.mark.parametrize(
    ("sensitivity", "by"),
    [("public", "caller"), ("internal", "caller"), ("confidential", "owner"), ("restricted", "owner")],
)
def test_sensitivity_says_who_approves_where_the_code_does_not(project: Path, sensitivity: str, by: str) -> None:
    manifest = project / "pegboard.toml"
    manifest.write_text(f'sensitivity = "{sensitivity}"\n{manifest.read_text()}')
    requirement = load(project, requires_approval()).gates["drop"].requirement
    assert requirement is not None
    assert (requirement.by, requirement.own, requirement.source) == (by, by == "caller", "server")
    named = load(project, requires_approval(by="finance", own=True)).gates["drop"].requirement
    assert named is not None
    assert (named.by, named.own) == ("finance", True)


def test_what_is_declared_goes_to_the_hub_and_changes_the_release(project: Path) -> None:
    asks = load(project, requires_approval(by="finance", each="tables", when=lambda: True, why="it is gone then"))
    silent = load(project)
    tool = Declaration.model_validate_json(asks.declaration.model_dump_json()).tools[0]
    assert tool.approval is not None
    assert tool.approval.model_dump() == {
        "by": "finance",
        "own": False,
        "expires_s": 3600,
        "why": "it is gone then",
        "always": False,
        "each": "tables",
    }
    assert asks.declaration.digest != silent.declaration.digest
    assert "drop" not in silent.gates
