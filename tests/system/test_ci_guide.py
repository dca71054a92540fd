"""The guide for CI, followed to the letter: a job's own certificate publishes, and does nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.system.instance import REPOSITORY, Instance, running
from tests.system.pages import commands, files, reader_at

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ci-guide"), pytest.mark.heavy, pytest.mark.timeout(1800)]

STEP_S = 600

PAGE = (REPOSITORY / "docs" / "guides" / "publish-from-ci.md").read_text(encoding="utf-8")
MADE = "pegboard new sales -t sql --owner finance --group finance --group ads-eng -d 'Sales by day and office.'"
JOB = "spiffe://dev.pegboard.local/ci/sales"


@dataclass
class Desk:
    """An instance with a port for services, fay's project in git, and a runner's environment."""

    instance: Instance
    project: Path
    runner: Path
    page: str
    environment: dict[str, str]

    def run(self, command: str, status: int = 0, variables: Mapping[str, str] | None = None) -> str:
        """What a shell prints, in the project's folder."""
        done = subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=self.project,
            env={**self.environment, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=STEP_S,
        )
        assert done.returncode == status, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    folder, port = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp")), free_port()
    with running("--mtls-port", str(port)) as instance:
        page = PAGE.replace("http://localhost:8400", instance.public_url).replace(":8443", f":{port}")
        page = page.replace("pegboard svid", f"pegboard svid --home {instance.home.root}")
        environment = reader_at(instance)
        environment["PATH"] = f"{REPOSITORY / '.tools' / 'bin'}{os.pathsep}{environment['PATH']}"
        environment.pop("VIRTUAL_ENV", None)
        runner = folder / "runner"
        runner.mkdir()
        author = {
            f"GIT_{role}_{what}": "fay@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        found = Desk(instance, folder, runner, page, {**environment, **author, "RUNNER_TEMP": str(runner)})
        try:
            found.run(MADE)
            found.project = folder / "sales"
            found.run("git init -q --initial-branch main . && git add . && git commit -qm 'Sales by day'")
            found.run("pegboard submit --as fay --no-check --message 'by hand, once'")
            yield found
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def test_the_guide_does_what_it_shows(desk: Desk) -> None:
    found = commands(desk.page)
    assert len(found) == desk.page.count("\n```sh")
    for number, command in enumerate(found):
        # Each merge brings something new: the same files would be the release that there is.
        (desk.project / "CHANGES.md").write_text(f"{number}\n")
        command.follow(desk.project, desk.environment)
    listed = desk.run("pegboard releases dev/sales --as fay")
    assert listed.count(JOB) == 3


def scripts(page: str) -> dict[str, tuple[dict[str, str], list[str]]]:
    """The variables and commands of each CI system's file on the page."""
    [(_, github), (_, gitlab)] = sorted((str(path), yaml.safe_load(text)) for path, text in files(page).items())
    job: dict[str, Any] = github["jobs"]["publish"]
    assert github[True] == {"push": {"branches": ["main"]}}, "YAML 1.1 reads `on` so, and GitHub reads it as a name"
    return {
        "github": (job["env"], [step["run"] for step in job["steps"] if "run" in step]),
        "gitlab": (gitlab["publish"]["variables"], gitlab["publish"]["script"]),
    }


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_the_commands_of_the_ci_files_publish(desk: Desk, system: str) -> None:
    desk.run(f"pegboard publishers dev/sales add {JOB} --why 'the job of {system}' --as fay")
    desk.run(f"pegboard svid ci/sales --home {desk.instance.home.root} --ttl 10m --out {desk.runner}/svid")
    variables, steps = scripts(desk.page)[system]
    assert set(variables) == {"PEGBOARD_PUBLIC_URL", "PEGBOARD_SVID"}
    here = {"PEGBOARD_PUBLIC_URL": desk.instance.public_url, "PEGBOARD_SVID": f"{desk.runner}/svid"}
    more = {"CI_COMMIT_MESSAGE": "a merge", "CI_JOB_URL": f"https://{system}.example.com/jobs/7"}
    (desk.project / "CHANGES.md").write_text(system)
    told = [desk.run(step, variables=here | more) for step in steps]
    assert "dev/sales is live" in told[-1]
    shown = desk.run("pegboard releases dev/sales show --as fay --json")
    assert f"https://{system}.example.com/jobs/7" in shown


def test_a_job_that_nobody_named_gets_nothing(desk: Desk) -> None:
    desk.run(f"pegboard svid ci/other --home {desk.instance.home.root} --ttl 10m --out {desk.runner}/other")
    told = desk.run("pegboard submit --no-check", status=3, variables={"PEGBOARD_SVID": f"{desk.runner}/other"})
    assert "is no publisher of any server; ask the owner of yours to name it" in told


def test_a_job_that_is_taken_back_is_refused(desk: Desk) -> None:
    desk.run(f"pegboard publishers dev/sales add {JOB} --why 'for now' --as fay")
    desk.run(f"pegboard svid ci/sales --home {desk.instance.home.root} --ttl 10m --out {desk.runner}/svid")
    desk.run(f"pegboard publishers dev/sales remove {JOB} --why 'it moved' --as fay")
    told = desk.run("pegboard submit --no-check", status=3, variables={"PEGBOARD_SVID": f"{desk.runner}/svid"})
    assert "is no publisher" in told
