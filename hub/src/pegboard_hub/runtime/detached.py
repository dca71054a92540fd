"""A detached instance: started in the background, brought back when its supervisor dies, and ended by `down`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pegboard_hub.common.database_url import anchored
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime import procfs

logger = logging.getLogger(__name__)

KEEPER = Path(__file__).with_name("keeper.py")
KEPT = "--kept"
LOOK_S = 0.5
STOP_LIMIT_S = 60.0
LARGEST_LOG = 4 * 2**20
"""Bytes of `log/up.log` from which the next detached start puts it aside as `up.log.1`."""


def start(home: Home, options: list[str], say: Callable[[str], None]) -> int:
    """Start a supervisor in the background, and tell what it tells until everything is up.

    Args:
        home: of the instance.
        options: of `pegboard up`, complete.
        say: takes one line of its progress.

    Returns:
        0 when it is up; else the supervisor's exit status, and nothing runs.
    """
    log = home.log("up")
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_name("up.log.1"))
    if procfs.flock_holder(home.lock) is None:
        home.keeper.unlink(missing_ok=True)
    command = [sys.executable, "-I", "-u", "-m", "pegboard.cli", "up", KEPT, *options]
    with log.open("ab") as output:
        output.write(f"---- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, pegboard up --detach\n".encode())
        output.flush()
        begin = output.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=anchored(os.environ),
            start_new_session=True,
        )
    with log.open("r", encoding="utf-8", errors="replace") as told:
        told.seek(begin)
        try:
            while child.poll() is None and not _is_up(home, child.pid):
                _tell(told.read(), say)
                time.sleep(0.05)
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            say("interrupted; nothing is left running")
            return 130
        _tell(told.read(), say)
    return child.returncode if child.poll() is not None else 0


def _tell(text: str, say: Callable[[str], None]) -> None:
    for line in text.splitlines():
        say(line)


def _is_up(home: Home, pid: int) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        wanted = json.loads(home.detached.read_text(encoding="utf-8"))
        return bool(wanted["pid"] == pid)
    return False


def want(home: Home) -> None:
    """In the supervisor, once everything is up: this instance is to be brought back, until `release` is called.

    Raises:
        OSError: it cannot be written down.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    replace_file(home.detached, json.dumps({"pid": os.getpid(), "command": command}) + "\n", mode=0o600)


async def keep(home: Home) -> None:
    """In the supervisor, while it is wanted: see that a keeper waits. Runs until cancelled."""
    keeper: subprocess.Popen[bytes] | None = None
    told = False
    while True:
        try:
            if _free(home.keeper_lock) and (keeper is None or keeper.poll() is not None):
                keeper = _start_keeper(home)
            told = False
        except OSError as error:
            if not told:
                logger.warning("no keeper can be started, which is tried again: %s", error)
            told = True
        await asyncio.sleep(LOOK_S)


def release(home: Home) -> bool:
    """Nobody is to bring the supervisor back any more. False when that cannot be written, as on a read-only disk."""
    try:
        home.detached.unlink(missing_ok=True)
    except PermissionError:
        raise
    except OSError:
        return False
    return True


def _free(path: Path) -> bool:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _start_keeper(home: Home) -> subprocess.Popen[bytes]:
    settings = {
        "keeper_lock": str(home.keeper_lock),
        "supervisor_lock": str(home.lock),
        "wanted": str(home.detached),
        "state": str(home.keeper),
        "log": str(home.log("up")),
    }
    with home.log("up").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )


def stop(home: Home, limit: float = STOP_LIMIT_S) -> list[str] | None:
    """End a home's instance in order, detached or not.

    Only who holds the home's lock is told to end, never a process id read from a file.

    Returns:
        The names of what ran, none when only the keeper was there; None when nothing ran at all.

    Raises:
        PermissionError: it belongs to another user.
        TimeoutError: something still runs after `limit` seconds; the message names it.
    """
    ran = [process["name"] for process in read_status(home).get("processes", []) if process.get("pid")]
    released = release(home)
    any_ran, told = False, set[int]()
    deadline = time.monotonic() + limit
    while holders := [pid for lock in (home.lock, home.keeper_lock) if (pid := procfs.flock_holder(lock))]:
        any_ran = True
        supervisor, keeper = procfs.flock_holder(home.lock), procfs.flock_holder(home.keeper_lock)
        if keeper is not None and not released:
            os.kill(keeper, signal.SIGTERM)  # it would go by what it cannot be told any more
        if supervisor is not None and supervisor not in told:
            os.kill(supervisor, signal.SIGTERM)
            told.add(supervisor)
        if time.monotonic() > deadline:
            names = " and ".join(str(pid) for pid in holders)
            raise TimeoutError(f"process {names} still runs after {limit:.0f} s")
        time.sleep(0.1)
    return (ran if told else []) if any_ran else None


def read_status(home: Home) -> dict[str, Any]:
    """The supervisor's word on its processes; empty when there is none."""
    try:
        found = json.loads(home.status.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
