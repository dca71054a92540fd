"""Running an author's code once, for what it leaves: confined as a server is, and with an end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO
from uuid import uuid4

from pegboard.core.errors import PegboardError
from pegboard.core.manifest import Resources
from pegboard_hub.runtime.cgroups import Groups
from pegboard_hub.runtime.disk import nameless, usage
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.processes import end_session
from pegboard_hub.runtime.procfs import tree
from pegboard_hub.runtime.sandbox import View

BOUNDS = Resources(memory_mb=1024, cpu_millis=2000, processes=256)
"""What one such run may use; processes and processor time where control groups can be made."""

MOST_DISK = 2 * 1024**3
MOST_ENTRIES = 200_000
"""Bytes, and files and folders, that a run may leave in its folder."""

LOOK_S = 1.0

RUN = "run~"
"""How the names of these runs' control groups begin; no server's does."""

NICE = 5
"""How much lower their priority is: calls come first."""

_KILLED = (-9, 128 + 9)


class ReleaseFailed(PegboardError):
    """A server's release could not be made. The message says which step, and what to do."""


class OutsideFailed(ReleaseFailed):
    """What it needs of the outside is not there now, and may be another time."""


@dataclass(frozen=True, slots=True)
class ConfinedRun:
    """How a confined command ended, and what it printed."""

    status: int
    out: bytes
    told: bytes

    @property
    def reason(self) -> str:
        """Its last words, for whom it may concern."""
        lines = self.told.decode(errors="replace").strip().splitlines()
        if self.status in _KILLED:
            lines.append(f"it was killed, as what needs far more than {BOUNDS.memory_mb} MiB of memory is")
        return " | ".join(lines[-3:]) or f"exit status {self.status}"


async def run_confined(
    isolation: Isolation,
    role: str,
    view: View,
    folder: Path,
    command: list[str],
    *,
    limit_s: float,
    most_bytes: int,
    groups: Groups | None = None,
    variables: Mapping[str, str] | None = None,
    more_limits: Mapping[str, int] = MappingProxyType({}),
) -> ConfinedRun:
    """Run a command as the server would run, in `folder`.

    Args:
        isolation: how.
        role: for whom; its own user where there is one.
        view: what it may see.
        folder: its working folder, HOME and TMPDIR.
        command: what to run.
        limit_s: seconds until it is ended.
        most_bytes: the largest file, output included, that it may write.
        groups: where its control group is made; None: nowhere.
        variables: beside the base environment.
        more_limits: names and values of setrlimit(2) in place of the usual ones.

    Raises:
        ReleaseFailed: it took too long, printed too much or filled its folder.
    """
    name = f"{RUN}{uuid4().hex}"
    limits = {"RLIMIT_FSIZE": most_bytes, **more_limits}
    joins = groups.make(name, BOUNDS) if groups is not None else ()
    confined = isolation.confined(role, view, BOUNDS, folder, command, limits, joins, NICE)
    try:
        return await _run(confined, folder, limit_s, most_bytes, variables or {})
    finally:
        if groups is not None:
            await groups.sweep(name, BOUNDS)
            groups.remove(name)


async def _run(
    confined: list[str], folder: Path, limit_s: float, most_bytes: int, variables: Mapping[str, str]
) -> ConfinedRun:
    # Into files, not pipes: whatever the author's code leaves behind cannot keep us reading.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        process = await asyncio.create_subprocess_exec(
            *confined,
            env={**base_environment(folder), **variables},
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=told,
            start_new_session=True,
        )
        status = await _ended(process, folder, limit_s)
        run = ConfinedRun(status, _content(out), _content(told))
    if len(run.out) >= most_bytes:
        raise ReleaseFailed(f"its code printed more than {most_bytes // 2**20} MiB")
    return run


def base_environment(folder: Path) -> dict[str, str]:
    """Variables that every confined process has; none of the operator's own."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}


async def _ended(process: asyncio.subprocess.Process, folder: Path, limit_s: float) -> int:
    ended, filled = asyncio.create_task(process.wait()), asyncio.create_task(_not_filled(folder, process.pid))
    try:
        await asyncio.wait({ended, filled}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ended.result()
        if filled.done():
            filled.result()
        raise ReleaseFailed(f"its code took longer than {limit_s:.0f} s: importing it must not wait")
    finally:
        filled.cancel()
        end_session(process)
        await ended


async def _not_filled(folder: Path, pid: int) -> None:
    """Look now and then at what there is in a folder, and at what a process and those below it took out of it again.

    Raises:
        ReleaseFailed: it is too much.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        used = await asyncio.to_thread(usage, folder, MOST_ENTRIES)
        held = await asyncio.to_thread(nameless, folder, list(tree(pid)))
        if used.bytes + held > MOST_DISK or used.entries > MOST_ENTRIES:
            raise ReleaseFailed(
                f"its code fills the disk: more than {MOST_DISK // 2**20} MiB or {MOST_ENTRIES} files are too many"
            )


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
