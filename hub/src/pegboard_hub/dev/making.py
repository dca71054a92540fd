"""A release straight from its author's folder: the project's own environment, and what its code declares right now.

Nothing is copied but what the kit reads beside the code, and nothing is isolated: it is the author's own code, on the
author's own machine. What a release is really made of, `pegboard submit` shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pegboard.core.archive import SKIPPED
from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.processes import end_session
from pegboard_hub.runtime.releases import Release
from pegboard_hub.runtime.workshop import Report

DESCRIBE_S = 60.0
SYNC_S = 600.0

BESIDE = (FILE_NAME, "policies", "tools.pins.json")
"""What the kit reads in the project's folder."""

BACKEND = "backend"

State = dict[str, tuple[int, int]]
"""What a project's files are: path to time and size."""


class ProjectInPlace:
    """Makes a server's release of its author's folder. The last one stands as long as no file changes.

    Args:
        home: of the instance.
        uv: the program that brings the project's environment in line with its lock file.
    """

    def __init__(self, home: Home, uv: Path) -> None:
        self._home = home
        self._uv = uv
        self._made: tuple[State, Release] | None = None
        self._synced: State | None = None

    @property
    def made(self) -> Release | None:
        """The last one that was made; None before there was any."""
        return self._made[1] if self._made is not None else None

    async def make(self, server: ServerName, project: Path, report: Report) -> Release:
        """The release of the project as it is now.

        Raises:
            ReleaseFailed: it is none; the message is for its author.
        """
        state = await asyncio.to_thread(state_of, project)
        if self._made is not None and self._made[0] == state:
            return self._made[1]
        try:
            if (name := read_manifest(project).name) != server.name:
                raise ReleaseFailed(f"{FILE_NAME} names it {name!r} now: start pegboard dev again")
            await self._sync(project, state, report)
            declaration = await self._describe(project)
            self._lay_out(server, project)
        except (ConfigurationError, OSError) as error:
            raise ReleaseFailed(str(error)) from error
        replace_file(self._home.declaration(server), declaration.canonical + "\n")
        source = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
        release = Release(server, declaration, _python(project), source)
        self._made = state, release
        return release

    async def _sync(self, project: Path, state: State, report: Report) -> None:
        """Bring the environment in line; what is locked is installed again only when that changed."""
        wanted = {name: state[name] for name in ("pyproject.toml", "uv.lock") if name in state}
        if wanted == self._synced and _python(project).exists():
            return
        report("installing what its lock file says")
        environment = {**os.environ, "UV_NO_PROGRESS": "1", "UV_PROJECT_ENVIRONMENT": str(project / ".venv")}
        environment.pop("VIRTUAL_ENV", None)
        command = [str(self._uv), "sync", "--project", str(project)]
        status, _, err = await _run(command, project, environment, SYNC_S)
        if status != 0:
            raise ReleaseFailed(f"its environment cannot be made: {_said_by_uv(err)}")
        self._synced = {name: found for name, found in state_of(project).items() if name in wanted}

    async def _describe(self, project: Path) -> Declaration:
        command = [str(_python(project)), "-I", "-B", "-m", "pegboard.describe", "--project", str(project)]
        status, out, err = await _run(command, project, dict(os.environ), DESCRIBE_S)
        if status != 0:
            ended = f"its module ends the process as it is imported (status {status}); importing must only declare"
            raise ReleaseFailed(err.strip() or ended)
        try:
            declaration = Declaration.model_validate_json(out)
        except ValidationError as error:
            raise ReleaseFailed("its tools cannot be read: what it printed is no declaration") from error
        if problems := declaration_problems(declaration):
            raise ReleaseFailed("\n".join(problems))
        return declaration

    def _lay_out(self, server: ServerName, project: Path) -> None:
        """Put beside the server's process what the kit reads; a copy, since rights are set on it."""
        kept = self._home.project(server)
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name in BESIDE:
            found = project / name
            if found.is_dir():
                shutil.copytree(found, kept / name, symlinks=True)
            elif found.exists():
                shutil.copy(found, kept / name, follow_symlinks=False)
        if (project / BACKEND).is_dir():
            (kept / BACKEND).symlink_to(project / BACKEND)


def state_of(project: Path) -> State:
    """What its files are now, but what no release is made of."""
    found: State = {}
    for path in _files(project):
        with suppress(OSError):
            status = path.lstat()
            found[path.relative_to(project).as_posix()] = (status.st_mtime_ns, status.st_size)
    return found


def _files(project: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(parent) / name for name in names if name not in SKIPPED and not name.endswith(".pyc"))


def _python(project: Path) -> Path:
    return project / ".venv" / "bin" / "python"


async def _run(
    command: Sequence[str], folder: Path, environment: dict[str, str], limit_s: float
) -> tuple[int, str, str]:
    """Status, output and errors of a program; it ends with all that it started when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), limit_s)
    except TimeoutError:
        raise ReleaseFailed(f"{Path(command[0]).name} did not end within {limit_s:.0f} s") from None
    finally:
        if process.returncode is None:
            end_session(process)
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _said_by_uv(text: str) -> str:
    rows = [row for row in text.splitlines() if row.strip()]
    at = next((place for place, row in enumerate(rows) if row.lstrip().startswith(("error", "×"))), 0)
    return "\n".join(rows[at : at + 12])
