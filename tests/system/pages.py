"""Reading a page of the docs as a reader would follow it: files to write, commands to run, what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.system.instance import Instance

FILE = re.compile(r"^`(?P<path>[^`\n]+)`:\n\n```\w+\n(?P<text>.+?)^```$", re.M | re.S)
COMMAND = re.compile(
    r"^```sh(?: exit=(?P<status>\d))?\n(?P<command>.+?)\n```$(?:\n\n```text\n(?P<shown>.+?)\n```$)?", re.M | re.S
)


class Command(NamedTuple):
    """Shell commands of a page, their exit status, and lines that their output has."""

    text: str
    status: int
    shown: list[str]

    def follow(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Run it in `folder` and hold it to what the page says."""
        command = ["sh", "-e", "-c", self.text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        printed = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == self.status, f"{self.text}\n{printed}"
        for line in self.shown:
            assert " ".join(line.split()) in printed, printed


def files(page: str) -> dict[Path, str]:
    """The files that a page gives in full, by their path: a caption in backquotes, a colon, the block."""
    return {Path(found["path"]): found["text"] for found in FILE.finditer(page)}


def commands(page: str) -> list[Command]:
    """The `sh` blocks of a page, each with the `text` block beneath it if it has one."""
    return [
        Command(found["command"], int(found["status"] or 0), (found["shown"] or "").splitlines())
        for found in COMMAND.finditer(page)
    ]


def reader_at(instance: Instance) -> dict[str, str]:
    """The environment of a reader's terminal: the clone's programs come first, and the port is named."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    port = instance.public_url.rpartition(":")[2]
    return {**os.environ, "PATH": programs, "PEGBOARD_PORT": port, "COLUMNS": "200"}
