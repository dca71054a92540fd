"""Projects that are submitted to a whole instance, as their authors do it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.system.instance import REPOSITORY, Instance

LIVE_S = 600
"""A first build fetches the packages of a server."""


def submitted(pegboard: Instance, project: Path, person: str, *options: str, status: int = 0) -> str:
    """Submit a project as a person, wait until it is live or what `status` says, and give what was printed."""
    return command(pegboard, "submit", str(project), "--as", person, *options, status=status)


def command(pegboard: Instance, *line: str, status: int = 0) -> str:
    """What `pegboard` prints, of an author's terminal that knows the instance."""
    return done([sys.executable, "-m", "pegboard.cli", *line, "--url", pegboard.public_url], status=status)


def done(line: Sequence[str | Path], folder: Path = REPOSITORY, status: int = 0) -> str:
    """What a command prints in an author's terminal, where uv is at hand and no environment is active."""
    outside = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    outside |= {"PATH": f"{REPOSITORY / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    ended = subprocess.run(line, cwd=folder, env=outside, capture_output=True, text=True, timeout=LIVE_S)
    printed = ended.stdout + ended.stderr
    assert ended.returncode == status, printed
    return printed


def copied(project: Path, folder: Path) -> Path:
    """A copy of a project, to be changed."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".venv", "__pycache__", "node_modules"))
    return folder


def moved(project: Path, pegboard: Instance) -> Path:
    """A project that was written for another instance, as docs/guides/publish-a-server.md moves it to this one."""
    described = project / "pyproject.toml"
    text = described.read_text(encoding="utf-8")
    assert text.count(SEEDS_INDEX) == 1
    described.write_text(text.replace(SEEDS_INDEX, f"{pegboard.public_url}/packages/simple/"), encoding="utf-8")
    done(["uv", "lock", "--quiet"], project)
    return project


SEEDS_INDEX = "http://localhost:8400/packages/simple/"
"""What the projects of this repository name: the demo's own."""
