"""Where one release is made: folders, whose user runs the author's code, and the programs that make it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pegboard.core.declared import declaration_problems
from pegboard.core.release import Declaration
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.cgroups import Groups
from pegboard_hub.runtime.confined import OutsideFailed, ReleaseFailed, run_confined
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.launching import NO_CORE, Launch
from pegboard_hub.runtime.permissions import ROOT, Right, give, ids
from pegboard_hub.runtime.processes import end_session
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.users import is_root

DESCRIBE_TIMEOUT_S = 30
DESCRIBE_BYTES = 8 * 1024 * 1024
"""The largest declaration taken; beyond it the author's code is stopped."""

COMPILE_TIMEOUT_S = 120
COMPILE_LIMITS = {**NO_CORE, "RLIMIT_DATA": 1024 * 1024 * 1024}

_AWAY = (
    "error sending request",
    "dns error",
    "tcp connect",
    "timed out",
    "status server error (5",
    "status client error (429",
)
"""How uv says that an index does not answer, or not now."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where one release is made.

    Attributes:
        role: whose user runs the author's code (`Isolation.user`).
        folder: of what is made; the operator's.
        work: folder in which the author's code works, the role's own.
        isolation: how the author's code is run.
        uv: the program that builds environments.
        groups: where control groups are made for the author's code; None: nowhere.
    """

    role: str
    folder: Path
    work: Path
    isolation: Isolation
    uv: Path
    groups: Groups | None = None

    @property
    def environment(self) -> Path:
        """The Python environment that is made."""
        return self.folder / "env"

    @property
    def project(self) -> Path:
        """What is kept of the project: manifest and policies."""
        return self.folder / "project"

    @property
    def python(self) -> Path:
        """The environment's own interpreter."""
        return self.environment / "bin" / "python"

    def make_ready(self) -> None:
        """Empty the working folder, and let the role read what there is so far. None of its code may run.

        Raises:
            OSError: a folder cannot be created or given away.
        """
        remove_tree(self.work)
        self.work.mkdir(parents=True, mode=0o700)
        if is_root():
            uid, gid = ids(self.isolation, self.role)
            give(Right(self.work, uid, gid, 0o700))
            for part in (self.environment, self.project):
                if part.is_dir():
                    give(Right(part, ROOT, gid, 0o750))

    def uv_environment(self) -> dict[str, str]:
        """Variables that uv is run with outside the sandbox: the operator's, and nothing of the project's."""
        environment = {
            **os.environ,
            "UV_PROJECT_ENVIRONMENT": str(self.environment),
            "UV_PYTHON": str(self.isolation.python),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_NO_CONFIG": "1",  # the project may not set up the operator's uv
            "UV_COMPILE_BYTECODE": "0",
        }
        environment.pop("VIRTUAL_ENV", None)
        return environment

    async def run_uv(
        self, arguments: list[str], environment: Mapping[str, str] | None = None, report: Report = lambda _: None
    ) -> list[str]:
        """Run uv outside the sandbox, where it runs none of the author's code; what it said, a line each.

        Raises:
            OutsideFailed: an index does not answer.
            ReleaseFailed: it failed.
        """
        status, _, lines = await self._uv(arguments, environment, report)
        if status != 0:
            raise _failure(f"`uv {arguments[0]}` ended with status {status}: {_why(lines)}")
        return lines

    async def ask_uv(self, arguments: list[str]) -> bytes:
        """As `run_uv`; what it printed.

        Raises:
            ReleaseFailed: it failed.
        """
        status, out, lines = await self._uv(arguments, None, lambda _: None)
        if status != 0:
            raise ReleaseFailed(f"`uv {arguments[0]}` ended with status {status}: {_why(lines)}")
        return out

    async def _uv(
        self, arguments: list[str], environment: Mapping[str, str] | None, report: Report
    ) -> tuple[int, bytes, list[str]]:
        process = await asyncio.create_subprocess_exec(
            *Launch().command([str(self.uv), *arguments]),
            env=environment or self.uv_environment(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, lines = await asyncio.gather(_whole(process.stdout), _lines(process.stderr, report))
            return await process.wait(), out, lines
        finally:
            if process.returncode is None:
                end_session(process)
                await process.wait()

    async def compile(self, environment: Path | None = None) -> None:
        """Compile an environment, its own unless another is given, which the server cannot. What does not compile is
        left as it is.

        The environment's own Python never runs out here: it runs what `.pth` files in the environment say.
        """
        libraries = (environment or self.environment) / "lib"
        command = [str(self.isolation.python), "-I", "-S", "-m", "compileall", "-qq", "-j", "0", str(libraries)]
        process = await asyncio.create_subprocess_exec(
            *Launch(limits=COMPILE_LIMITS).command(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            await asyncio.wait_for(process.wait(), COMPILE_TIMEOUT_S)
        except TimeoutError:
            pass  # it starts more slowly, and that is all
        finally:
            end_session(process)
            await process.wait()

    async def describe(self) -> Declaration:
        """What the release declares. Reading it runs the author's code: confined, alone and with a limit.

        Raises:
            ReleaseFailed: it cannot be read, or may not be said.
        """
        view = View((self.environment, self.project, *python_folders(self.isolation.python)), (self.work,))
        command = [str(self.python), "-I", "-m", "pegboard.describe", "--project", str(self.project)]
        run = await run_confined(
            self.isolation,
            self.role,
            view,
            self.work,
            command,
            groups=self.groups,
            limit_s=DESCRIBE_TIMEOUT_S,
            most_bytes=DESCRIBE_BYTES,
        )
        if run.status != 0:
            raise ReleaseFailed(f"its tools cannot be read: {run.reason}")
        try:
            declaration = Declaration.model_validate_json(run.out)
        except ValidationError as error:
            raise ReleaseFailed("its tools cannot be read: what it printed is no declaration") from error
        if problems := declaration_problems(declaration):
            raise ReleaseFailed("; ".join(problems))
        return declaration


def _failure(words: str) -> ReleaseFailed:
    """What is raised for what uv said: of an index that is away it is nobody's project, and tried again."""
    return OutsideFailed(words) if any(sign in words.casefold() for sign in _AWAY) else ReleaseFailed(words)


async def _whole(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""


async def _lines(stream: asyncio.StreamReader | None, report: Report) -> list[str]:
    lines: list[str] = []
    if stream is not None:
        async for raw in stream:
            line = raw.decode(errors="replace").strip()
            lines.append(line)
            if line.startswith(("Downloading", "Building", "Prepared", "Installed")):
                report(line[0].lower() + line[1:])
    return lines


def _why(lines: list[str]) -> str:
    """What uv said went wrong: from its first line of an error on, without what it did well and warned of before."""
    errors = [place for place, line in enumerate(lines) if line.startswith("error")]
    told = lines[errors[0] :] if errors else lines
    return " | ".join(line for line in told[-20:] if line)
