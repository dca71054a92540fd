"""Running an author's code once, for what it leaves: confined as a server is, and with an end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from pegboard.core.errors import PegboardError
from pegboard.core.manifest import Resources
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.processes import end_session
from pegboard_hub.runtime.sandbox import View

_MEMORY = Resources(memory_mb=1024)


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
        variables: beside the base environment.
        more_limits: names and values of setrlimit(2) in place of the usual ones.

    Raises:
        ReleaseFailed: it took too long or printed too much.
    """
    limits = {"RLIMIT_FSIZE": most_bytes, **more_limits}
    confined = isolation.confined(role, view, _MEMORY, folder, command, more_limits=limits)
    # Into files, not pipes: whatever the author's code leaves behind cannot keep us reading.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        process = await asyncio.create_subprocess_exec(
            *confined,
            env={**base_environment(folder), **(variables or {})},
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=told,
            start_new_session=True,
        )
        status = await _ended(process, limit_s)
        run = ConfinedRun(status, _content(out), _content(told))
    if len(run.out) >= most_bytes:
        raise ReleaseFailed(f"its code printed more than {most_bytes // 2**20} MiB")
    return run


def base_environment(folder: Path) -> dict[str, str]:
    """Variables that every confined process has; none of the operator's own."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}


async def _ended(process: asyncio.subprocess.Process, limit_s: float) -> int:
    try:
        return await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError as error:
        raise ReleaseFailed(f"its code took longer than {limit_s:.0f} s: importing it must not wait") from error
    finally:
        end_session(process)
        await process.wait()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
