"""VS Code's own code reads our registry through the edge: what it asks, and what it makes of the answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.edge_rig import Rig, running_edge
from tests.system.test_official_edge import hub_behind
from tests.tools.node import NodeTools, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("official")]

READER = Path(__file__).parent / "clients" / "vscode_gallery.mjs"
TIMEOUT_S = 120
MANY = [f"s{number:02}" for number in range(60)]
"""More servers than VS Code asks for at once, which are 50."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_edge() as rig, hub_behind(rig, tmp_path_factory.mktemp("hub"), MANY):
        yield rig


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    return provide()


def read(edge: Rig, tools: NodeTools, home: Path, search: str, *names: str) -> dict[str, Any]:
    """What VS Code's code asked and understood."""
    command = [str(tools.node), str(READER), str(tools.folder), edge.public_url, search, json.dumps(names)]
    done = subprocess.run(
        command, env=tools.environment(home), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["troubles"] == []
    return document


def test_vs_code_reads_every_page_of_the_gallery(edge: Rig, tools: NodeTools, tmp_path: Path) -> None:
    found = read(edge, tools, tmp_path, "")
    assert found["version"] == "v0.1"
    assert [len(page) for page in found["pages"]] == [50, 11]
    assert [item["name"] for page in found["pages"] for item in page] == [
        "com.acme/presto",
        *(f"com.acme/{name}" for name in MANY),
    ]
    presto = found["pages"][0][0]
    told = {name: presto.get(name) for name in ("displayName", "description", "status", "version", "isLatest")}
    assert told == {
        "displayName": "Presto",
        "description": "Query the warehouse",
        "status": "active",
        "version": "1.0.0",
        "isLatest": True,
    }
    remotes = [{"type": "streamable-http", "url": f"{edge.public_url}/mcp/prod/presto"}]
    assert presto["configuration"] == {"remotes": remotes}
    assert presto["publishDate"] > 0


def test_vs_code_pages_through_a_search_that_it_says_once(edge: Rig, tools: NodeTools, tmp_path: Path) -> None:
    found = read(edge, tools, tmp_path, "S")
    assert [item["name"] for page in found["pages"] for item in page if "presto" not in item["name"]] == [
        f"com.acme/{name}" for name in MANY
    ]
    probe, first, second = found["asked"]
    assert (probe, first) == ("/v0.1/servers?limit=1", "/v0.1/servers?limit=50&version=latest&search=S")
    assert second.startswith("/v0.1/servers?limit=50&version=latest&cursor=")
    assert "search" not in second


def test_vs_code_looks_a_server_up_by_its_name(edge: Rig, tools: NodeTools, tmp_path: Path) -> None:
    found = read(edge, tools, tmp_path, "nothing-such", "com.acme/presto", "com.acme/absent", "io.github.x/y")
    assert found["pages"] == [[]]
    assert [server["name"] for server in found["looked_up"]] == ["com.acme/presto"]
    assert "/v0.1/servers/com.acme%2Fpresto/versions/latest" in found["asked"]
