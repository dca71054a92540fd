"""Building third-party packages that have no wheel: their build is code, so it runs confined and without network."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.confined import ReleaseFailed, run_confined
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.permissions import prepare_server
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.source import SourceDistribution

BUILD_TIMEOUT_S = 300
FETCH_TIMEOUT_S = 60
MOST_BYTES = 512 * 1024 * 1024

_DEFAULT_TOOLS = ["setuptools", "wheel"]
"""What a package without `build-system` is built with (PEP 517)."""

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[A-Za-z0-9,._ -]*\])?\s*([<>=!~][^@/]*)?(;.*)?")
"""A named requirement (PEP 508); one that says from where (a URL or a path) is refused."""


class SdistBuilder:
    """Builds source distributions for one instance.

    Args:
        home: where work and releases are.
        isolation: how their code is run.
        uv: the program that drives the build.
        run_uv: runs uv outside isolation; here only for wheels, which run nothing.
    """

    def __init__(
        self, home: Home, isolation: Isolation, uv: Path, run_uv: Callable[[list[str]], Awaitable[object]]
    ) -> None:
        self._home = home
        self._isolation = isolation
        self._uv = uv
        self._run_uv = run_uv

    async def build(self, server: ServerName, sdist: SourceDistribution, wheels: Path) -> None:
        """Put the wheel of `sdist` into the folder `wheels`.

        Raises:
            ReleaseFailed: it cannot be fetched, is not what was locked, or does not build.
            OSError: a file cannot be written.
        """
        archive = await self._fetch(server, sdist)
        tools = self._home.release(server) / "build-tools"
        await self._run_uv(["venv", "--clear", str(tools)])
        python = tools / "bin" / "python"
        if wanted := _tools(archive, sdist):
            await self._run_uv(["pip", "install", "--no-build", "--python", str(python), *wanted])
        prepare_server(self._home, self._isolation, server)  # an empty working folder
        work = self._home.work(server)
        view = View((archive, tools, self._uv, *python_folders(self._isolation.python)), (work,))
        build = ["build", "--wheel", "--no-build-isolation", "--offline", "--no-config", "--python", str(python)]
        run = await run_confined(
            self._isolation,
            server,
            view,
            work,
            [str(self._uv), *build, "--out-dir", str(work / "built"), str(archive)],
            limit_s=BUILD_TIMEOUT_S,
            most_bytes=MOST_BYTES,
            variables={"UV_CACHE_DIR": str(work / "cache")},
        )
        if run.status != 0:
            raise ReleaseFailed(f"{sdist.name} has no wheel and does not build: {run.reason}")
        take_wheel(work / "built", wheels, sdist.name)
        shutil.rmtree(tools)

    async def _fetch(self, server: ServerName, sdist: SourceDistribution) -> Path:
        """The archive on disk, verified against the lock file; fetched unless an earlier start did."""
        kept = self._home.release(server) / "sdists" / f"{sdist.sha256}.tar.gz"
        if not kept.exists():
            async with httpx2.AsyncClient(follow_redirects=True, timeout=FETCH_TIMEOUT_S) as client:
                try:
                    response = await client.get(sdist.url)
                    response.raise_for_status()
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    raise ReleaseFailed(f"{sdist.name} cannot be fetched from {sdist.url}: {error}") from error
            if hashlib.sha256(response.content).hexdigest() != sdist.sha256:
                raise ReleaseFailed(f"{sdist.name}: what {sdist.url} gives is not what uv.lock has")
            kept.parent.mkdir(exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_bytes(response.content)
            part.replace(kept)
        return kept


def _tools(archive: Path, sdist: SourceDistribution) -> list[str]:
    """What the archive asks to be built with."""
    text = b""
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar:
            if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
                file = tar.extractfile(member)
                text = file.read(1024 * 1024) if file else b""
    try:
        system = tomllib.loads(text.decode()).get("build-system", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReleaseFailed(f"{sdist.name}: its pyproject.toml is not valid: {error}") from error
    tools = [str(requirement) for requirement in system.get("requires", _DEFAULT_TOOLS)]
    for tool in tools:
        if not _REQUIREMENT.fullmatch(tool):
            raise ReleaseFailed(f"{sdist.name}: its build asks for {tool!r}, which is no plain requirement")
    return tools


def take_wheel(built: Path, wheels: Path, name: str) -> None:
    """Take the one wheel of package `name` out of a folder that its build could write, following no link.

    Raises:
        ReleaseFailed: there is not exactly one, or it is no file.
        OSError: it cannot be copied.
    """
    found = sorted(built.glob("*.whl"))
    if len(found) != 1:
        raise ReleaseFailed(f"{name}: its build left {len(found)} wheels instead of one")
    descriptor = os.open(found[0], os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as wheel, (wheels / found[0].name).open("wb") as copy:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ReleaseFailed(f"{name}: its build left something that is no file")
        shutil.copyfileobj(wheel, copy)
