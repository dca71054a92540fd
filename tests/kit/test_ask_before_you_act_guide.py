"""The guide "ask before you act": its server is a server, and each of its tools asks as the guide says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pegboard.check import check
from pegboard.core.approval import Block
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "ask-before-you-act.md").read_text("utf-8")
*SERVER, TEST = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
MANIFEST = """
name = "guide"
entry = "asking_guide:server"
description = "The server of the guide"
owner = "platform"
support_channel = "#platform"

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project of the guide."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "granted.cedar").write_text('permit (principal in Group::"ads-eng", action, resource);')
    (tmp_path / "pegboard.toml").write_text(MANIFEST)
    (tmp_path / "asking_guide.py").write_text("\n\n".join(SERVER))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("asking_guide", None)


@pytest.fixture
def hub(folder: Path) -> InMemoryHub:
    return InMemoryHub(folder)


async def call(hub: InMemoryHub, tool: str, **arguments: Any) -> tuple[bool, str]:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool(tool, arguments)
    return result.is_error, "\n".join(each.text for each in result.content)


def test_pytest_runs_its_test_as_it_stands(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(TEST, "the guide's test", "exec"), names)  # noqa: S102 - the guide is ours
    assert names["pytestmark"] == pytest.mark.anyio


def test_a_check_has_nothing_to_say_of_its_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):  # the guide shows a module and no whole project
        check(folder, as_json=True)
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {each["code"] for each in findings if each["severity"] != "note"} <= {"PB402", "PB203", "PB207"}


async def test_its_own_test_passes(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(TEST, "the guide's test", "exec"), names)  # noqa: S102 - the guide is ours
    tests: list[Callable[[], Awaitable[None]]] = [each for name, each in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    await tests[0]()


async def test_a_cheap_query_asks_nobody_and_a_dear_one_shows_its_cost(hub: InMemoryHub) -> None:
    assert await call(hub, "run_query", sql="select 1") == (False, "ran select 1")
    assert (await call(hub, "run_query", sql="select * from orders"))[0]
    [request] = hub.approvals.waiting
    assert request.requirement.by == "caller"
    assert request.preview is not None
    assert (request.preview.what, request.preview.cost) == ("Scans 2.0 TB", "about 10 dollars")


async def test_a_confirmation_is_the_callers_and_shows_the_plan(hub: InMemoryHub) -> None:
    assert (await call(hub, "overwrite_table", table="t", sql="select 1"))[0]
    [request] = hub.approvals.waiting
    assert request.kind == "confirm"
    assert request.preview is not None
    assert request.preview.blocks == (Block(title="Plan", kind="sql", text="INSERT OVERWRITE t\nselect 1"),)


async def test_of_a_list_what_was_approved_runs_and_the_rest_is_told(hub: InMemoryHub) -> None:
    tables = [f"t{number}" for number in range(8)]
    assert (await call(hub, "drop_tables", tables=tables))[0]
    waiting = hub.approvals.waiting
    hub.approvals.approve(*waiting[:5])
    hub.approvals.reject(*waiting[5:], why="still in use")
    failed, said = await call(hub, "drop_tables", tables=tables)
    assert not failed
    assert all(f"dropped t{number}" in said for number in range(5))
    assert "dropped t5" not in said
    assert "still in use" in said
