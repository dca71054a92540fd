"""`pegboard doctor` on a running instance, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.system.instance import REPOSITORY, Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]


DOCTOR = [sys.executable, "-m", "pegboard.cli", "doctor", "--offline"]


def doctor(instance: Instance, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*DOCTOR, "--home", str(instance.home.root), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)


def test_a_running_instance_is_looked_over_and_nothing_must_be_mended(pegboard: Instance) -> None:
    done = doctor(pegboard, "--json")
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["state"] in ("well", "warning")
    by_check = {finding["check"]: finding for finding in told["findings"]}
    assert f"held by this instance's edge, and {pegboard.public_url} answers" in by_check["port"]["found"]
    assert "all signed by this hub" in by_check["bundles"]["found"]
    assert by_check["isolation"]["found"].startswith("isolation is ")
    assert all(bool(finding["mend"]) == (finding["state"] != "well") for finding in told["findings"])


def test_a_person_reads_a_line_for_each_finding(pegboard: Instance) -> None:
    done = doctor(pegboard)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert "the database is whole" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("well.")
