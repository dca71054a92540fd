"""`pegboard surfaces` against a hub process: a key is made, a surface registered, looked at, changed and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.cli.app import run
from tests.hub.company import Company
from tests.hub.hub_process import Process, arguments


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def test_a_surface_from_its_key_to_its_end(
    hub: Process, company: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        status = run(["surfaces", *words, "--home", str(company.home.root)])
        out, err = capsys.readouterr()
        return status, out, err

    assert said("list")[:2] == (0, "No surface acts for people here.\n")
    key, public = tmp_path / "bot.json", tmp_path / "bot.public.json"
    assert run(["surfaces", "key", str(key)]) == 0
    assert run(["surfaces", "key", str(key)]) == 2, "a key is never written over"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "d" not in json.loads(public.read_text())["keys"][0]
    capsys.readouterr()
    limits = ["--group", "ads-eng", "--server", "prod/*", "--channel", "#data-help"]
    what = ["ads-bot", "--surface", "bot", *limits, "--why", "asked for"]
    status, _, err = said("register", *what, "--keys", str(key))
    assert (status, "holds a private key" in err) == (2, True)
    status, out, err = said("register", *what, "--keys", str(public))
    assert (status, "/acting?client=ads-bot" in out) == (0, True), err
    assert said("register", *what, "--keys", str(public))[0] == 1
    assert "ads-eng" in said("list")[1]
    shown = said("show", "ads-bot")[1]
    assert "#data-help" in shown
    assert "It has acted for nobody." in shown
    assert said("change", "ads-bot", "--group", "finance", "--why", "moved")[0] == 0
    changed = json.loads(said("show", "ads-bot", "--json")[1])
    assert (changed["groups"], changed["servers"], changed["exchanges"]) == (["finance"], ["prod/*"], [])
    status, _, err = said("change", "ads-bot", "--server", "everything", "--why", "more")
    assert (status, "servers" in err) == (1, True)
    assert said("remove", "ads-bot", "--why", "retired")[:2] == (0, "Removed: ads-bot\n")
    status, out, err = said("show", "ads-bot", "--json")
    assert (status, json.loads(out)["error"]["code"], "surfaces list" in err) == (1, "failed", True)
    history = said("history")[1]
    assert [word in history for word in ("register", "change", "remove", "operator", "moved")] == [True] * 5
    private = json.loads(key.read_text())["d"]
    assert private not in hub.log()
