"""`pegboard keys list | rotate` against a hub process: what is said, to whom, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pegboard.cli.app import run
from tests.hub.company import Company
from tests.hub.hub_process import Process, arguments
from tests.hub.test_key_rotation import CONSUMERS, Fleet
from tests.rings import key_in


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def said(capsys: pytest.CaptureFixture[str], *words: str, home: Any) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `pegboard keys …`."""
    status = run(["keys", *words, "--home", str(home.root)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.heavy
def test_a_rotation_nobody_is_there_to_wait_for_ends_by_itself(
    hub: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    Fleet(company).report(**{name.replace("/", "__"): "down" for name in CONSUMERS})
    before = key_in(company.home.token_ring)["kid"]
    status, out, err = said(capsys, "rotate", "tokens", home=company.home)
    after = key_in(company.home.token_ring)["kid"]
    assert (status, out) == (0, f"tokens: {after} signs now\n")
    assert "down, so not waited for: edge, dev/scratch, prod/presto" in err
    status, out, _ = said(capsys, "list", home=company.home)
    rows = {line.split()[-1]: line for line in out.splitlines()[1:]}
    assert status == 0
    assert rows[before].startswith("tokens   retired")
    assert rows[after].startswith("tokens   current")
    status, out, _ = said(capsys, "list", "--json", home=company.home)
    found = json.loads(out)
    assert {key["kid"] for key in found["keys"]} == rows.keys()
    assert found["rotations"] == []
    secrets = [key_in(path)["d"] for path in (company.home.token_ring, company.home.bundle_ring)]
    assert not [secret for secret in secrets if secret in out + hub.log()]


def test_a_rotation_that_waits_names_for_whom_and_is_joined(
    hub: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(company)
    fleet.report(edge="down", dev__scratch="down")
    hub.has_read_status()
    status, out, err = said(capsys, "rotate", "--wait", "0", "--json", home=company.home)
    found = json.loads(out)
    assert status == 4
    assert [each["purpose"] for each in found["rotations"]] == ["tokens", "bundles"]
    assert "waits for prod/presto (live)" in err
    status, out, err = said(capsys, "rotate", "tokens", "--wait", "0", home=company.home)
    assert (status, out) == (4, "")
    assert "tokens: a rotation is under way already, and this one joins it" in err
    _, out, _ = said(capsys, "list", home=company.home)
    assert out.count("waits for prod/presto (live)") == 2
    fleet.report(prod__presto="down")
    status, out, _ = said(capsys, "rotate", "tokens", home=company.home)
    assert (status, out) == (0, f"tokens: {found['rotations'][0]['kid']} signs now\n")


@pytest.mark.heavy
def test_a_hub_that_is_killed_meanwhile_goes_on_and_is_waited_for(hub: Process, company: Company) -> None:
    fleet = Fleet(company)
    hub.has_read_status()
    command = [sys.executable, "-m", "pegboard.cli", "keys", "rotate", "tokens", "--home", str(company.home.root)]
    rotating = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert rotating.stderr is not None
        assert "waits for edge (live)" in rotating.stderr.readline()
        coming = key_in(company.home.token_ring, "next")["kid"]
        hub.end()
        assert "the hub does not answer just now" in rotating.stderr.readline()
        again = Process(company)
        try:
            again.start(*arguments(company))
            again.ready()
            fleet.report(**dict.fromkeys(("edge", "prod__presto", "dev__scratch"), "down"))
            out, _ = rotating.communicate(timeout=120)
        finally:
            again.end()
    finally:
        rotating.kill()
        rotating.wait()
    assert (rotating.returncode, out) == (0, f"tokens: {coming} signs now\n")


def test_what_cannot_be_asked_is_said_with_its_status(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "rotate", "passwords", home=company.home)[0] == 2
    # In a process of its own: the client leaves the socket of a connection that failed to the garbage collector.
    command = [sys.executable, "-m", "pegboard.cli", "keys", "list", "--home", str(company.home.root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, "does not answer" in ended.stderr) == (5, "", True)
    company.home.operator_token.unlink()
    status, out, err = said(capsys, "rotate", "--json", home=company.home)
    assert (status, json.loads(out)["error"]["code"]) == (5, "unreachable")
    assert "Nothing runs on" in err
