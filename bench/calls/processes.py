"""Starting processes, and what the kernel says they used (proc(5))."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pegboard_hub.runtime import procfs

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
MIB = 2**20


def start(command: list[str], log: Path, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a process group of its own, whose output goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, env=dict(environment), cwd=folder, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def private(folder: Path, **more: str) -> dict[str, str]:
    """An environment with a HOME of its own and nothing of ours."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **more}


def until(condition: Callable[[], object], what: str, log: Path, within_s: float = 240) -> None:
    """Wait until `condition` holds; errors of the network mean that it does not yet.

    Raises:
        TimeoutError: it did not come to hold; says the end of `log`.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise TimeoutError(f"not within {within_s} s: {what}\n{log.read_text(errors='replace')[-2000:]}")


def listens(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def free_port() -> int:
    """A loopback port that nobody holds right now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def members(roles: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """Every process of each role: its roots and what is below them, without the roots of other roles."""
    roots = {root for pids in roles.values() for root in pids}
    return {role: [pid for root in pids for pid in _below(root, roots - {root})] for role, pids in roles.items()}


def _below(pid: int, without: set[int]) -> list[int]:
    found = [pid]
    for child in procfs.children(pid):
        if child not in without:
            found += _below(child, without)
    return found


def cpu_us(pids: Iterable[int]) -> float:
    """CPU time of processes so far in microseconds, user and system, and of their children that have ended."""
    return sum(_ticks(pid) for pid in pids) * TICK_US


def _ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15])
    return 0


def memory_mib(pids: Iterable[int]) -> float:
    """Memory of processes in MiB: private pages, and their share of shared ones (PSS)."""
    return sum(_pss(pid) for pid in pids) / MIB


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
