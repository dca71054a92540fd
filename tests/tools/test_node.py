"""The Node tools come once, from the lock file, and say what to do when they cannot come."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tools import node
from tests.tools.node import AGENTS, HERE, NodeToolsError, provide


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """npm finds nobody, has nothing cached, and does not try twice."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")


def test_unreachable_registry_is_named_with_the_mend(
    no_registry: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(node, "INSTALLED", tmp_path / "node")
    for _ in range(2):
        with pytest.raises(NodeToolsError, match="npm config set registry URL"):
            provide()


def test_installed_tools_need_no_registry(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    provide()
    request.getfixturevalue("no_registry")
    tools = provide()
    assert Path(tools.command("conformance")[1]).exists()
    assert Path(tools.command("mcp-inspector")[1]).exists()


def test_unknown_program_is_named() -> None:
    with pytest.raises(NodeToolsError, match="nothing-such"):
        provide().command("nothing-such")


@pytest.mark.parametrize("tools", ["", AGENTS])
def test_lock_pins_exact_versions_with_digests_and_names_no_host(tools: str) -> None:
    wanted = json.loads((HERE / tools / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = json.loads((HERE / tools / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", version) for version in wanted.values())
    assert packages.pop("")["dependencies"] == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())
