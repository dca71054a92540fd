"""`pegboard dev`: what is saved answers through a real edge, and what is wrong is said and ends nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.edge_rig import until
from tests.system.instance import REPOSITORY

pytestmark = [pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("dev")]

PEGBOARD = [sys.executable, "-m", "pegboard.cli"]


class Dev:
    """A project with `pegboard dev` at work on it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "scratch"
        left_out = shutil.ignore_patterns(".venv", "__pycache__", ".pegboard")
        shutil.copytree(REPOSITORY / "servers" / "scratch", self.project, ignore=left_out)
        self.port = free_port()
        self.log = folder / "dev.log"
        outside = {n: v for n, v in os.environ.items() if not n.startswith("PEGBOARD_") and n != "VIRTUAL_ENV"}
        with self.log.open("wb") as log:
            command = [*PEGBOARD, "dev", str(self.project), "--port", str(self.port), "--as", "ana"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=outside, start_new_session=True)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def says(self, words: str, after: int = 0) -> int:
        """Wait until it says something; where that ends in what it said."""

        def look() -> int:
            assert self.process.poll() is None, self.said
            found = re.search(words, self.said[after:])
            return after + found.end() if found else 0

        return until(look, f"it says {words}", lambda: self.said)

    def run(self, *line: str) -> tuple[int, str]:
        url = f"http://localhost:{self.port}"
        done = subprocess.run([*PEGBOARD, *line, "--url", url], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def save(self, old: str, new: str) -> None:
        path = self.project / "src" / "pegboard_scratch" / "server.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@contextmanager
def developing() -> Iterator[Dev]:
    folder = Path(tempfile.mkdtemp(prefix="pgd", dir="/tmp"))
    running = Dev(folder)
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGINT)
        try:
            running.process.wait(60)
        finally:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with developing() as running:
        running.says("Saved files are taken up at once")
        yield running


def test_it_says_how_to_call_it_as_whom_and_where_the_inspector_is(dev: Dev) -> None:
    at = f"http://localhost:{dev.port}"
    dev.says("ana may use echo, note.")
    for words in (
        "call dev/scratch echo --arg text='is anybody there?' --as ana",
        "May not: sol, lea, gus.",
        f"npx @modelcontextprotocol/inspector --transport http --server-url {at}/mcp/dev/scratch",
        f"{at}/servers/dev/scratch",
    ):
        assert words in dev.said


def test_people_are_let_in_and_refused_as_they_will_be(dev: Dev) -> None:
    assert dev.run("call", "dev/scratch", "echo", "--as", "ana", "--arg", "text=hi") == (0, "hi\n")
    status, told = dev.run("call", "dev/scratch", "echo", "--as", "gus", "--arg", "text=hi")
    assert status == 3
    assert "refused by the edge" in told


def test_what_is_saved_answers_what_is_wrong_is_said_and_nothing_of_it_ends_what_runs(dev: Dev) -> None:
    begin = len(dev.said)
    dev.save("    return text\n", "    print('counting')\n    return text * 2)\n")
    begin = dev.says("what ran before goes on", begin)
    assert re.search(r"  src/pegboard_scratch/server.py, line \d+: SyntaxError: unmatched '\)'", dev.said)
    assert dev.run("call", "dev/scratch", "echo", "--as", "ana", "--arg", "text=hi") == (0, "hi\n")

    dev.save("return text * 2)", "return text * 2")
    begin = dev.says(r"reloaded in [\d.]+ s", begin)
    assert dev.run("call", "dev/scratch", "echo", "--as", "ana", "--arg", "text=hi") == (0, "hihi\n")
    dev.says(r"\| counting \[", begin)


def test_what_is_wrong_while_it_starts_ends_nothing_either() -> None:
    with developing() as dev:
        dev.says("dev/scratch is live")
        dev.save("    return text\n", "    return text)\n")
        begin = dev.says("Saved files are taken up at once")
        dev.says("what ran before goes on", begin)
        assert dev.run("call", "dev/scratch", "echo", "--as", "ana", "--arg", "text=hi") == (0, "hi\n")


def test_what_callers_would_see_of_a_change_is_named_when_it_is_saved(dev: Dev) -> None:
    begin = len(dev.said)
    dev.save("    return text", "    return text * 3  #")
    dev.save("async def note(", "async def keep(")
    begin = dev.says(r"reloaded in [\d.]+ s", begin)
    told = dev.said
    assert "  + tool keep (policy granted)" in told
    assert "  - tool note" in told
    dev.says("ana may use echo, keep.", begin)
    _, told = dev.run("tools", "dev/scratch", "--as", "ana", "--json")
    assert [tool["name"] for tool in json.loads(told)["tools"]] == ["echo", "keep"]

    policy = dev.project / "policies" / "granted.cedar"
    policy.write_text('permit (principal in Group::"finance", action, resource);\n')
    begin = dev.says("ana may use no tool", begin)
    assert "~ policy granted" in dev.said
    assert dev.run("call", "dev/scratch", "echo", "--as", "fay", "--arg", "text=a") == (0, "aaa\n")


def test_a_folder_that_is_no_project_is_told_how_to_become_one(tmp_path: Path) -> None:
    done = subprocess.run([*PEGBOARD, "dev", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pegboard new NAME" in done.stderr
    assert list(tmp_path.iterdir()) == []
