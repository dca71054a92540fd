"""The keeper of a detached instance: starts the supervisor again when it ended any other way than by being told.

Run as a plain script, `python -I -S keeper.py SETTINGS`, with the standard library alone: it does nothing but wait,
so that there is little that could go wrong with it. It waits for the supervisor's lock, which the kernel releases
whenever the supervisor ends. Should the keeper itself be killed, the supervisor starts another.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
LOOK_S = 0.1


def main(settings: dict[str, str]) -> int:
    """Keep until the instance is no longer wanted.

    Args:
        settings: paths by name: `keeper_lock`, `supervisor_lock`, `wanted`, `state`, `log`.
    """
    mine = os.open(settings["keeper_lock"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # there is one
    wanted = Path(settings["wanted"])
    pause = FIRST_PAUSE_S
    while True:
        _until_free(settings["supervisor_lock"])
        if not wanted.exists():
            return 0
        _note(Path(settings["state"]))
        if not _pause(wanted, pause):
            return 0
        came_up = _start(wanted, settings["log"])
        pause = FIRST_PAUSE_S if came_up else min(pause * 2, LONGEST_PAUSE_S)


def _until_free(path: str) -> None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.close(lock)


def _pause(wanted: Path, seconds: float) -> bool:
    """Wait; false when the instance is not wanted any more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and wanted.exists():
        time.sleep(LOOK_S)
    return wanted.exists()


def _start(wanted: Path, log: str) -> bool:
    """Start a supervisor; true once everything is up, false when it ended before."""
    try:
        command: list[str] = json.loads(wanted.read_text(encoding="utf-8"))["command"]
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        _head(output)
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
        )
        os.close(output)
    except (OSError, ValueError, KeyError):
        return False
    while child.poll() is None and not _started(wanted.with_name("status.json"), child.pid):
        time.sleep(LOOK_S)
    return child.poll() is None


def _head(log: int) -> None:
    """Say in the log when this start is; its lines count seconds from here."""
    line = time.strftime("---- %Y-%m-%d %H:%M:%S UTC, the keeper starts it again\n", time.gmtime())
    with suppress(OSError):
        os.write(log, line.encode())


def _started(status: Path, pid: int) -> bool:
    try:
        found = json.loads(status.read_text(encoding="utf-8"))
        return bool(found["started"]) and found["supervisor"]["pid"] == pid
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note(state: Path) -> None:
    """Count one more end of the supervisor, for whoever asks for the status."""
    try:
        known: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known = {"pid": os.getpid(), "restarts": int(known.get("restarts", 0)) + 1, "last_restart": time.time()}
    fresh = state.with_name(f".{state.name}.{os.getpid()}")
    with suppress(OSError):  # a full disk must not keep the supervisor from coming back
        fresh.write_text(json.dumps(known) + "\n", encoding="utf-8")
        fresh.replace(state)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
