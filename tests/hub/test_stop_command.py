"""`pegboard stop | resume | stops` against a hub process: at the machine, without a login, or by API and page."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pegboard.cli.app import run
from tests.hub.company import Company
from tests.hub.test_hub_process import Process, arguments


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def test_at_the_machine_everything_is_stopped_listed_and_resumed_without_a_login(
    hub: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str]:
        status = run([*words, "--home", str(company.home.root)])
        return status, capsys.readouterr().out

    assert said("stops") == (0, "")
    status, out = said("stop", "person", "ana", "--why", "the laptop was stolen.", "--for", "4h")
    assert status == 0
    assert out.startswith("Stopped for everybody: person ana, until 20")
    assert said("stop", "server", "prod/presto", "--why", "it leaks")[0] == 0
    assert run(["stop", "person", "gone@example.com", "--why", "x", "--home", str(company.home.root)]) == 0
    assert "stop that" in capsys.readouterr().err, "an address that nobody is signed in with may be nobody's id"
    assert said("resume", "person", "gone@example.com", "--why", "x")[0] == 0
    found = json.loads(said("stops", "--json")[1])["stops"]
    assert {(each["kind"], each["name"], each["why"], each["by"]) for each in found} == {
        ("person", "ana", "the laptop was stolen", "operator"),
        ("server", "prod/presto", "it leaks", "operator"),
    }
    assert "the laptop was stolen" in said("stops")[1]
    assert said("resume", "person", "ana", "--why", "a new one") == (0, "Resumed for everybody: person ana\n")
    assert said("resume", "person", "ana")[0] == 1
    assert said("stop", "surface", "moon", "--why", "x")[0] == 1
    assert [each["kind"] for each in json.loads(said("stops", "--json")[1])["stops"]] == ["server"]


def test_without_the_machine_a_resume_waits_for_a_person_in_a_browser(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["resume", "server", "prod/presto", "--no-browser", "--url", "http://localhost:8400", "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (status, error["code"]) == (4, "resumed_in_a_browser")
    assert error["what_to_do"] == "Go on there: http://localhost:8400/stops?kind=server&name=prod%2Fpresto"


@pytest.mark.parametrize(
    "words",
    [
        ["stop", "moon", "x", "--why", "y"],
        ["stop", "person", "ana"],
        ["stop", "person", "ana", "--why", "y", "--for", "soon"],
        ["resume", "moon", "x"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert capsys.readouterr().out == ""
