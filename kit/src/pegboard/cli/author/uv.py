"""The program uv, which locks and runs an author's project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pegboard.cli.exit import ExitStatus, Failure

MEND = "Install it (pip install uv, or https://docs.astral.sh/uv/), or name it: PEGBOARD_UV=/path/to/uv"


def find_uv() -> Path:
    """Where uv is: what PEGBOARD_UV names, a clone's own, beside this Python, or on PATH.

    Raises:
        Failure: it is nowhere.
    """
    named = os.environ.get("PEGBOARD_UV")
    beside = Path(sys.executable).parent
    places = [Path(named)] if named else [p / ".tools" / "bin" / "uv" for p in beside.parents] + [beside / "uv"]
    for place in places:
        if os.access(place, os.X_OK) and place.is_file():
            return place
    if not named and (found := shutil.which("uv")):
        return Path(found)
    raise Failure.usage(f"PEGBOARD_UV={named} is no program." if named else "uv is not installed.", MEND)


def run_uv(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run uv in a project's folder, in the project's own environment and no other.

    Raises:
        Failure: it cannot be started.
    """
    try:
        return subprocess.run(
            [str(find_uv()), *arguments],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise Failure.here(ExitStatus.FAILED, "no_uv", f"uv cannot be started: {error.strerror}.", MEND) from error


def environment() -> dict[str, str]:
    """The variables for uv: the project's environment is the one it works in, whichever this command runs in."""
    left = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {**left, "UV_NO_PROGRESS": "1"}


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What went wrong, in a few lines."""
    rows = [row.strip() for row in (done.stderr or done.stdout).splitlines() if row.strip()]
    at = next((place for place, row in enumerate(rows) if row.startswith(("error", "×"))), max(0, len(rows) - 8))
    return " ".join(rows[at : at + 12]) or f"it ended with status {done.returncode}"
