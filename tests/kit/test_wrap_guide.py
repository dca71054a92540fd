"""The guide to wrapping an existing server, followed as it is written."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from pegboard.core.manifest import read_manifest
from pegboard.core.pins import FILE_NAME
from pegboard.proxy.snapshot import take
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "wrap-an-existing-server.md"


def block(language: str, holding: str) -> str:
    """The one block of the guide in a language that holds a text."""
    found = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = (each for each in found if holding in each)
    return text


async def test_the_guide_leads_to_a_governed_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "desk"
    (project / "policies").mkdir(parents=True)
    (project / "backend").mkdir()
    (project / "pyproject.toml").write_text(block("toml", "package = false"))
    (project / "pegboard.toml").write_text(block("toml", "[proxy.tools.drawers]"))
    (project / "policies" / "everybody.cedar").write_text(block("cedar", "@reason"))
    (project / "policies" / "ads.cedar").write_text(block("cedar", "Group"))
    (project / "backend" / "desk.py").write_text(block("python", "MCPServer"))
    monkeypatch.chdir(tmp_path)
    assert shutil.which("python", path=str(Path(sys.prefix) / "bin"))
    (project / FILE_NAME).write_text((await take(project, read_manifest(project))).text())
    hub = InMemoryHub(project)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["drawers", "empty"]
        assert (await client.call_tool("drawers", {})).structured_content == {"result": ["left", "right"]}
        waiting = await client.call_tool("empty", {"drawer": "left"})
        assert "did not run yet" in waiting.content[0].text  # type: ignore[union-attr]
    async with hub.client("pat", groups=["platform"]) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["drawers"]
