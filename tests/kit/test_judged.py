"""A tool whose policy reads an argument, or that a person says yes to, gets the value that was judged or shown, and
not one that the SDK made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from mcp_types import CallToolResult
from pydantic import AfterValidator, AliasChoices, BaseModel, Field, RootModel

from pegboard import Server, authorize_tool, requires_approval
from pegboard.core.record import Outcome
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

NOT_SEVEN = """
@arguments("value")
permit (principal, action, resource);
forbid (principal, action, resource) when { context has args && context.args has value && context.args.value == 7 };
"""


class Options(BaseModel):
    size: int
    note: str | None = None


class Colour(Enum):
    RED = "red"


def takes(kind: Any) -> Callable[[list[Any]], Callable[..., Any]]:
    def made(got: list[Any]) -> Callable[..., Any]:
        async def tool(value: Any = None) -> str:
            got.append(value)
            return "done"

        tool.__annotations__["value"] = kind
        return tool

    return made


async def sent(project: Path, kind: Any, arguments: dict[str, Any]) -> tuple[list[Any], str, list[Any]]:
    """What the tool got, what the caller read, and how the ledger says it ended."""
    (project / "policies" / "not-seven.cedar").write_text(NOT_SEVEN)
    got: list[Any] = []
    server = Server()
    server.tool(name="take")(authorize_tool(policy="not-seven")(takes(kind)(got)))
    hub = InMemoryHub(project, server)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("take", arguments)
    assert isinstance(result, CallToolResult)
    text = "".join(getattr(block, "text", "") for block in result.content)
    return got, text, [record.status for record in hub.records if isinstance(record, Outcome)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "7"),
        (int, True),
        (bool, 1),
        (bool, "yes"),
        (list[int], "[7]"),
        (list[int], ["7"]),
        (dict[str, int], '{"x": 7}'),
        (dict[str, int], {"x": "7"}),
        (Options, '{"size": 7}'),
        (Options, {"size": "7"}),
        (set[int], ["7"]),
        (str | None, "null"),
        (Any, "[7]"),
    ],
    ids=str,
)
async def test_a_value_that_would_be_made_into_another_is_not_run(project: Path, kind: Any, value: Any) -> None:
    got, text, ended = await sent(project, kind, {"value": value})
    assert got == []
    assert text.startswith("take cannot take these arguments: value: Send it ")
    assert "because a policy reads it" in text
    assert ended == ["tool_error"]


@pytest.mark.parametrize(
    ("kind", "value", "becomes"),
    [
        (int, 8, 8),
        (float, 8, 8.0),
        (bool, True, True),
        (str, "7", "7"),
        (str | None, None, None),
        (list[str], ["a"], ["a"]),
        (set[str], ["a", "a"], {"a"}),
        (dict[str, int], {"x": 7}, {"x": 7}),
        (Options, {"size": 7}, Options(size=7)),
        (date, "2026-11-25", date(2026, 11, 25)),
        (Colour, "red", Colour.RED),
        (Any, {"x": [1]}, {"x": [1]}),
    ],
    ids=str,
)
async def test_a_value_that_was_sent_as_it_is_meant_runs(project: Path, kind: Any, value: Any, becomes: Any) -> None:
    assert (await sent(project, kind, {"value": value}))[0] == [becomes]


async def test_a_second_name_of_an_argument_does_not_lead_past_its_policy(project: Path) -> None:
    kind = Annotated[int, Field(validation_alias=AliasChoices("value", "other"))]
    got, text, _ = await sent(project, kind, {"other": 7})
    assert got == []
    assert "Send it under this name" in text


@dataclass
class Range:
    low: int
    high: int = 9


class Aliased(BaseModel):
    from_day: str = Field(alias="from", default="monday")


class Names(RootModel[list[str]]):
    pass


async def shown(project: Path, kind: Any, arguments: dict[str, Any]) -> tuple[list[str], str]:
    """What somebody would be asked to say yes to, and what the caller read."""
    server = Server()
    server.tool(name="take")(requires_approval(by="caller")(authorize_tool(policy="granted")(takes(kind)([]))))
    hub = InMemoryHub(project, server)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("take", arguments)
    assert isinstance(result, CallToolResult)
    return list(hub.approvals.waiting), "".join(getattr(block, "text", "") for block in result.content)


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (int, {"value": 7, "dry_run": True}, "dry_run: Leave it out, because the tool takes no argument of this"),
        (int, {"value": "7"}, "value: Send it as int, not as str, because a person says yes to exactly it"),
        (bool, {"value": "no"}, "value: Send it as bool"),
        (list[str], {"value": '["a"]'}, "value: Send it as list"),
        (Options, {"value": {"size": 7, "dry_run": True}}, "value: Send it as the tool takes it"),
        (Range, {"value": {"low": "7"}}, "value: Send it as the tool takes it"),
        (Names, {"value": ["a", 7]}, "value"),
        (Annotated[str, AfterValidator(str.strip)], {"value": " a"}, "value: Send it as the tool takes it"),
    ],
    ids=str,
)
async def test_nobody_is_asked_about_arguments_that_the_tool_would_not_get_as_they_stand(
    project: Path, kind: Any, arguments: dict[str, Any], told: str
) -> None:
    waiting, text = await shown(project, kind, arguments)
    assert waiting == []
    assert told in text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, 7),
        (int, 7.0),
        (Options, {"size": 7}),
        (Range, {"low": 7}),
        (Aliased, {"from": "friday"}),
        (Names, ["a"]),
        (date, "2026-11-25"),
        (Colour, "red"),
        (Any, {"x": [1]}),
    ],
    ids=str,
)
async def test_arguments_that_the_tool_gets_as_they_stand_are_asked_about(
    project: Path, kind: Any, value: Any
) -> None:
    waiting, text = await shown(project, kind, {"value": value})
    assert len(waiting) == 1, text
