"""`pegboard registry import-drafts` at a real hub and edge: what another registry tells of becomes drafts here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli.app import run
from tests.hub.official import SERVER_SCHEMA, server_validator
from tests.system.edge_rig import Rig, running_edge
from tests.system.test_official_edge import hub_behind

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("official")]

WEATHER = {
    "$schema": SERVER_SCHEMA,
    "name": "io.github.acme/Weather_API.v2",
    "title": "Weather",
    "description": "Forecasts for the places we deliver to",
    "version": "2.1.0-rc.1",
    "websiteUrl": "https://acme.example/weather",
    "repository": {"url": "https://github.com/acme/weather", "source": "github"},
    "remotes": [
        {"type": "streamable-http", "url": f"https://{region}.weather.example/mcp"} for region in ("eu", "us", "ap")
    ],
}
WHO = ["--owner", "ads-eng", "--support-channel", "#ads", "--as", "ana"]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_edge() as rig, hub_behind(rig, tmp_path_factory.mktemp("hub")):
        yield rig


@pytest.fixture(autouse=True)
def _at_the_instance(edge: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", edge.public_url)


def told(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """What the command says as JSON."""
    assert run([*words, "--json"]) == status, capsys.readouterr().err
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def written(folder: Path, **changes: Any) -> str:
    path = folder / "server.json"
    path.write_text(json.dumps(WEATHER | changes))
    return str(path)


def test_a_server_json_becomes_a_draft_that_its_team_may_edit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server_validator().validate(WEATHER)
    path = written(tmp_path)
    [draft] = told(capsys, "registry", "import-drafts", path, *WHO)["drafts"]
    shown = told(capsys, "servers", "prod/weather-api-v2", "--as", "ana")
    kept = ("server", "title", "description", "owner", "support_channel", "links", "sensitivity")
    assert {name: shown[name] for name in kept} == {name: draft[name] for name in kept}
    assert (shown["lifecycle"], shown["you"]["may_edit"], shown["you"]["usable"]) == ("draft", True, False)
    assert shown["granted"] == {"groups": [], "surfaces": [], "channels": [], "services": []}
    [entry] = told(capsys, "history", "prod/weather-api-v2", "--as", "ana")["entries"]
    assert entry["why"] == f"imported: io.github.acme/Weather_API.v2 2.1.0-rc.1 from {Path(path).name}"


def test_our_own_list_is_read_as_any_registry_s_is_and_what_is_here_already_is_left_out(
    edge: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    document = told(capsys, "registry", "import-drafts", edge.public_url, *WHO, status=3)
    assert document["drafts"] == []
    assert document["left_out"] == [{"from": "com.acme/presto", "why": "server: prod/presto is taken."}]


@pytest.mark.parametrize(
    ("changes", "owner", "why"),
    [
        ({"title": "W\u0435ather"}, "ads-eng", "title: "),
        ({"description": "Rain\u3164"}, "ads-eng", "description: "),
        ({}, "finance", "owner: "),
    ],
    ids=["a look-alike title", "an invisible letter", "somebody else's team"],
)
def test_what_the_registry_refuses_is_told_by_its_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, str], owner: str, why: str
) -> None:
    words = ["--owner", owner, "--support-channel", "#ads", "--as", "ana"]
    path = written(tmp_path, name="com.acme/refused", **changes)
    document = told(capsys, "registry", "import-drafts", path, *words, status=3)
    assert document["drafts"] == []
    assert document["left_out"][0]["why"].startswith(why)
