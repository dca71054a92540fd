"""Layer 1 alone: with a server's policies opened on purpose, the edge still refuses what it should.

The other half, layer 2 alone behind an opened edge, is a step of the story (`pegboard_hub.demo.alone`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.common.settings import DEMO
from pegboard_hub.demo.stage import Stage
from pegboard_hub.demo.steps import bad_tokens, chat_may_not_reach_dev
from pegboard_hub.demo.wire import Wire
from tests.system.instance import REPOSITORY, running

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy]

EVERYONE = "permit (principal, action, resource);\n"


def opened_grants(folder: Path) -> Path:
    """The demo's grants over copies of its servers, in which every policy permits everyone."""
    folder.chmod(0o755)
    no_environment = shutil.ignore_patterns(".venv", "__pycache__", "tests")
    for server in ("presto", "scratch"):
        shutil.copytree(REPOSITORY / "servers" / server, folder / "servers" / server, ignore=no_environment)
        for policy in (folder / "servers" / server / "policies").glob("*.cedar"):
            policy.write_text(EVERYONE)
    demo = (DEMO / "grants.toml").read_text(encoding="utf-8")
    grants = folder / "grants.toml"
    for server in ("presto", "scratch"):
        demo = _point(demo, server)
    grants.write_text(demo, encoding="utf-8")
    return grants


def _point(text: str, server: str) -> str:
    lines = [
        f'source = "servers/{server}"' if line.endswith(f'servers/{server}"') else line for line in text.split("\n")
    ]
    return "\n".join(lines)


async def test_edge_refuses_by_itself_when_every_policy_is_open(tmp_path: Path) -> None:
    with running("--grants", str(opened_grants(tmp_path))) as instance:
        async with httpx2.AsyncClient(timeout=30) as http:
            stage = Stage(Wire(http, instance.public_url), instance.home)
            fay = await stage.wire.call(await stage.wire.token("fay"), "get_revenue_metrics", {})
            assert fay.refusal is None, "the policies are not open, so this would prove nothing"
            shown = [line for step in (chat_may_not_reach_dev, bad_tokens) async for line in step(stage)]
    assert len(shown) > 8
    assert [line.line for line in shown if not line.right] == []
