"""Making a server's release: its own environment, a copy of its project, and what it declares, read in isolation.

A release needs nothing of the folder it was made from: the project and its local packages are installed, not linked.
A stamp with the digest of everything it was made from lets the next start take it as it is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime.confined import ReleaseFailed, run_confined
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.launching import NO_CORE, Launch
from pegboard_hub.runtime.packages import PackageBuilder
from pegboard_hub.runtime.permissions import prepare_server
from pegboard_hub.runtime.processes import end_session
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.sdists import SdistBuilder
from pegboard_hub.runtime.source import Source

DESCRIBE_TIMEOUT_S = 30
DESCRIBE_BYTES = 8 * 1024 * 1024
"""The largest declaration taken; beyond it the author's code is stopped."""

COMPILE_TIMEOUT_S = 120
COMPILE_LIMITS = {**NO_CORE, "RLIMIT_DATA": 1024 * 1024 * 1024}

FORMAT = "4"
"""Changes when releases are laid out or declared anew, so that old ones are made again."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Release:
    """One server's release on disk, ready to run."""

    server: ServerName
    declaration: Declaration
    python: Path

    @property
    def digest(self) -> str:
        """Content address of what the release declares."""
        return self.declaration.digest


class ReleaseMaker:
    """Makes the releases of one instance.

    Args:
        home: where releases are kept.
        isolation: how an author's code is run.
        uv: the program that builds environments.
    """

    def __init__(self, home: Home, isolation: Isolation, uv: Path) -> None:
        self._home = home
        self._isolation = isolation
        self._uv = uv

    async def make(self, server: ServerName, project: Path, report: Report) -> Release:
        """The release of the project in folder `project`: the one on disk if it is still right, else a new one.

        Raises:
            ReleaseFailed: a step failed; the server has no release then.
        """
        home = self._home
        try:
            source = Source.read(project)
            digest = source.digest(FORMAT, str(self._isolation.python), str(home.release(server)))
            if (kept := self._kept(server, digest)) is not None:
                return kept
            for stale in (self._stamp(server), home.declaration(server)):
                stale.unlink(missing_ok=True)
            if (name := read_manifest(project).name) != server.name:
                raise ReleaseFailed(f"pegboard.toml names it {name!r}, and it is granted as {server}")
            report("installing its environment")
            await self._install(server, source, report)
            self._copy_project(server, project)
            prepare_server(home, self._isolation, server)
            report("reading its tools")
            declaration = await self._describe(server)
        except (ConfigurationError, OSError) as error:
            raise ReleaseFailed(str(error)) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A project can be wrong in ways nobody foresaw; the other servers start all the same.
            raise ReleaseFailed(f"its files cannot be read ({type(error).__name__}: {error})") from error
        replace_file(home.declaration(server), declaration.model_dump_json() + "\n")
        replace_file(self._stamp(server), digest + "\n")
        return Release(server, declaration, self._python(server))

    def _kept(self, server: ServerName, digest: str) -> Release | None:
        with suppress(OSError, ValidationError):
            if self._stamp(server).read_text(encoding="utf-8").strip() == digest and self._python(server).exists():
                text = self._home.declaration(server).read_text(encoding="utf-8")
                return Release(server, Declaration.model_validate_json(text), self._python(server))
        return None

    async def _install(self, server: ServerName, source: Source, report: Report) -> None:
        """Install what the lock file says from wheels, then the local packages.

        The environment's own Python never runs out here: it runs what `.pth` files in the environment say. So the
        environment is made anew each time, filled from outside by the Python it is made from, and compiled by that.
        """
        home = self._home
        shutil.rmtree(home.environment(server), ignore_errors=True)
        environment = {
            **os.environ,
            "UV_PROJECT_ENVIRONMENT": str(home.environment(server)),
            "UV_PYTHON": str(self._isolation.python),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_NO_CONFIG": "1",  # the project may not set up the operator's uv
            "UV_COMPILE_BYTECODE": "0",
        }
        environment.pop("VIRTUAL_ENV", None)
        sync = ["sync", "--frozen", "--no-dev", "--no-build", "--no-install-local"]
        later = [word for each in source.unbuilt for word in ("--no-install-package", each.name)]
        await self._run_uv([*sync, *later, "--project", str(source.project)], environment, server, report)
        wheels = home.release(server) / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        wanted = await self._wanted(server, source, environment) if source.unbuilt else set()
        for sdist in (each for each in source.unbuilt if each.name in wanted):
            report(f"building {sdist.name}, which has no wheel")
            run_uv = partial(self._run_uv, environment=environment, server=server, report=lambda _: None)
            await SdistBuilder(home, self._isolation, self._uv, run_uv).build(server, sdist, wheels)
        for package in source.packages:
            await PackageBuilder(home, self._isolation, self._uv).build(server, source, package, wheels)
        install = ["pip", "install", "--no-deps", "--offline", "--no-index", "--reinstall"]
        into = ["--python", str(self._isolation.python), "--prefix", str(home.environment(server))]
        built = [str(path) for path in sorted(wheels.glob("*.whl"))]
        await self._run_uv([*install, *into, *built], environment, server, report)
        await self._compile(server)

    async def _compile(self, server: ServerName) -> None:
        """Compile the environment, which its server cannot. What does not compile is left as it is."""
        libraries = self._home.environment(server) / "lib"
        command = [str(self._isolation.python), "-I", "-S", "-m", "compileall", "-qq", "-j", "0", str(libraries)]
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

    async def _run_uv(
        self, arguments: list[str], environment: dict[str, str], server: ServerName, report: Report
    ) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *Launch().command([str(self._uv), *arguments]),
            env=environment,
            cwd=self._home.release(server),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        lines: list[str] = []
        try:
            assert process.stderr is not None  # noqa: S101 - a pipe was asked for
            async for raw in process.stderr:
                line = raw.decode(errors="replace").strip()
                lines.append(line)
                if line.startswith(("Downloading", "Building", "Prepared", "Installed")):
                    report(line[0].lower() + line[1:])
            status = await process.wait()
        finally:
            if process.returncode is None:
                end_session(process)
                await process.wait()
        if status != 0:
            raise ReleaseFailed(f"`uv {arguments[0]}` ended with status {status}: {_why(lines)}")
        return lines

    async def _wanted(self, server: ServerName, source: Source, environment: dict[str, str]) -> set[str]:
        """Names of what an empty environment would get on this machine: the lock file has other machines' too."""
        elsewhere = {**environment, "UV_PROJECT_ENVIRONMENT": str(self._home.release(server) / "nowhere")}
        sync = ["sync", "--frozen", "--no-dev", "--no-install-local", "--dry-run", "--project", str(source.project)]
        lines = await self._run_uv(sync, elsewhere, server, lambda _: None)
        return {line[2:].partition("==")[0].strip() for line in lines if line.startswith("+ ")}

    def _copy_project(self, server: ServerName, project: Path) -> None:
        kept = self._home.project(server)
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        shutil.copy(project / FILE_NAME, kept / FILE_NAME, follow_symlinks=False)
        if (project / "policies").is_dir():
            shutil.copytree(project / "policies", kept / "policies", symlinks=True)

    async def _describe(self, server: ServerName) -> Declaration:
        """What the release declares. Reading it runs the author's code: confined, alone and with a limit."""
        home, python = self._home, self._python(server)
        view = View(
            (home.environment(server), home.project(server), *python_folders(self._isolation.python)),
            (home.work(server),),
        )
        command = [str(python), "-I", "-m", "pegboard.describe", "--project", str(home.project(server))]
        run = await run_confined(
            self._isolation,
            server,
            view,
            home.work(server),
            command,
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

    def _python(self, server: ServerName) -> Path:
        return self._home.environment(server) / "bin" / "python"

    def _stamp(self, server: ServerName) -> Path:
        return self._home.release(server) / "made-from.sha256"


def _why(lines: list[str]) -> str:
    """What uv said went wrong: from its first line of an error on, without what it did well and warned of before."""
    errors = [place for place, line in enumerate(lines) if line.startswith("error")]
    told = lines[errors[0] :] if errors else lines
    return " | ".join(line for line in told[-20:] if line)
