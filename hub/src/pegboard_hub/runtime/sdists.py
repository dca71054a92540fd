"""Building third-party packages that have no wheel: their build is code, so it runs confined and without network."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from urllib.parse import unquote, urlsplit

import httpx2

from pegboard.core.check.dependencies import is_of
from pegboard.core.checks import parse_toml
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.confined import OutsideFailed, ReleaseFailed, run_confined
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.source import LARGEST_TOML, SourceDistribution
from pegboard_hub.runtime.workshop import Workshop

BUILD_TIMEOUT_S = 300
READ_TIMEOUT_S = 30
FETCH_TIMEOUT_S = 60
WHOLE_S = 600
"""Seconds between two parts of a file that is fetched, and for all of it."""

MOST_BYTES = 512 * 1024 * 1024

EPOCH = 315_532_800
"""Time of every file in what is built, in seconds since the epoch: the first that a wheel can say (1980)."""

_READ = """
import sys, tarfile
text = b""
with tarfile.open(sys.argv[1]) as tar:
    for member in tar:
        if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
            text = tar.extractfile(member).read(1024 * 1024)
sys.stdout.buffer.write(text)
"""
"""Prints an archive's own pyproject.toml."""

_DEFAULT_TOOLS = ["setuptools", "wheel"]
"""What a package without `build-system` is built with (PEP 517)."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[A-Za-z0-9,._ -]*\])?\s*([<>=!~][^@/]*)?(;.*)?")
"""A named requirement (PEP 508); one that says from where (a URL or a path) is refused."""


class SdistBuilder:
    """Builds source distributions in one workshop.

    Args:
        shop: where; its uv is run outside isolation here only for wheels, which run nothing.
        kept: folder of archives that were fetched before.
        indexes: where the tools of builds come from, the first before the others; empty: where uv looks by itself.
    """

    def __init__(self, shop: Workshop, kept: Path, indexes: Iterable[str] = ()) -> None:
        self._shop = shop
        self._kept = kept
        default, *others = [*indexes] or [""]
        self._from = ["--default-index", default] if default else []
        self._from += [part for index in others for part in ("--index", index)]

    async def build(self, sdist: SourceDistribution, wheels: Path) -> Path:
        """Put the wheel of `sdist` into the folder `wheels`; where it is.

        Raises:
            ReleaseFailed: it cannot be fetched, is not what was locked, or does not build.
            OSError: a file cannot be written.
        """
        shop = self._shop
        _check_of(unquote(urlsplit(sdist.url).path.rpartition("/")[2]), sdist)
        archive = await self._fetch(sdist)
        tools = shop.folder / "build-tools"
        await shop.run_uv(["venv", "--clear", str(tools)])
        python = tools / "bin" / "python"
        shop.make_ready()
        if wanted := await self._tools(archive, sdist):
            await shop.run_uv(["pip", "install", "--no-build", *self._from, "--python", str(python), *wanted])
        shop.make_ready()
        work = shop.work
        view = View((archive, tools, shop.uv, *python_folders(shop.isolation.python)), (work,))
        build = ["build", "--wheel", "--no-build-isolation", "--offline", "--no-config", "--python", str(python)]
        run = await run_confined(
            shop.isolation,
            shop.role,
            view,
            work,
            [str(shop.uv), *build, "--out-dir", str(work / "built"), str(archive)],
            groups=shop.groups,
            limit_s=BUILD_TIMEOUT_S,
            most_bytes=MOST_BYTES,
            variables={"UV_CACHE_DIR": str(work / "cache"), "SOURCE_DATE_EPOCH": str(EPOCH)},
        )
        if run.status != 0:
            raise ReleaseFailed(f"{sdist.name} has no wheel and does not build: {run.reason}")
        wheel = take_wheel(work / "built", wheels, sdist.name)
        remove_tree(tools)
        _check_of(wheel.name, sdist)
        return wheel

    async def _tools(self, archive: Path, sdist: SourceDistribution) -> list[str]:
        """What the archive asks to be built with. It is read confined: how long that takes is a stranger's to say."""
        shop = self._shop
        python = shop.isolation.python
        run = await run_confined(
            shop.isolation,
            shop.role,
            View((archive, *python_folders(python)), (shop.work,)),
            shop.work,
            [str(python), "-I", "-S", "-c", _READ, str(archive)],
            groups=shop.groups,
            limit_s=READ_TIMEOUT_S,
            most_bytes=LARGEST_TOML,
        )
        if run.status != 0:
            raise ReleaseFailed(f"{sdist.name}: its archive cannot be read: {run.reason}")
        return _wanted(run.out, sdist)

    async def _fetch(self, sdist: SourceDistribution) -> Path:
        """The archive on disk, verified against the lock file; fetched unless an earlier build did."""
        if not _DIGEST.fullmatch(sdist.sha256):
            raise ReleaseFailed(f"uv.lock gives no digest of {sdist.name}; run `uv lock`")
        kept = self._kept / f"{sdist.sha256}.tar.gz"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f".{sdist.sha256}.{token_hex(4)}.part")
            try:
                if await fetch(sdist.url, sdist.name, part) != sdist.sha256:
                    raise ReleaseFailed(f"{sdist.name}: what {sdist.url} gives is not what uv.lock has")
                part.replace(kept)
            finally:
                part.unlink(missing_ok=True)
        return kept


async def fetch(url: str, name: str, into: Path) -> str:
    """Write what an index gives at `url` into a file; gives its SHA-256, in hex. Nothing else of it is verified here.

    It goes part by part, and is whole in nobody's memory: the process that keeps everybody's builds, too.

    Raises:
        OutsideFailed: it cannot be had; it may be another time.
        ReleaseFailed: it is larger than anything that is fetched.
        OSError: the file cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    try:
        async with (
            asyncio.timeout(WHOLE_S),
            httpx2.AsyncClient(follow_redirects=True, timeout=FETCH_TIMEOUT_S) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            with into.open("wb") as file:
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > MOST_BYTES:
                        raise ReleaseFailed(f"{name} is larger than {MOST_BYTES // 2**20} MiB")
                    digest.update(part)
                    file.write(part)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        words = str(error) or type(error).__name__
        raise OutsideFailed(f"{name} cannot be fetched from {url}: {words}") from error
    return digest.hexdigest()


def _check_of(file: str, sdist: SourceDistribution) -> None:
    """See to it that a file is of the package that it is locked as: what is known of packages goes by their names."""
    if not is_of(file, sdist.name, sdist.version):
        raise ReleaseFailed(
            f"uv.lock has {file[:100]!a} as {sdist.name} {sdist.version}; run `uv lock`, and leave it so"
        )


def _wanted(text: bytes, sdist: SourceDistribution) -> list[str]:
    """What a pyproject.toml asks to be built with."""
    try:
        system = parse_toml(text.decode()).get("build-system", {})
    except ValueError as error:
        raise ReleaseFailed(f"{sdist.name}: its pyproject.toml is not valid: {error}") from error
    tools = [str(requirement) for requirement in system.get("requires", _DEFAULT_TOOLS)]
    for tool in tools:
        if not _REQUIREMENT.fullmatch(tool):
            raise ReleaseFailed(f"{sdist.name}: its build asks for {tool!r}, which is no plain requirement")
    return tools


def take_wheel(built: Path, wheels: Path, name: str) -> Path:
    """Take the one wheel of package `name` out of a folder that its build could write; where it is.

    Raises:
        ReleaseFailed: there is not exactly one, or it is no file.
        OSError: it cannot be copied.
    """
    try:
        # Whatever its build put there: no link is followed, and no pipe is waited for.
        folder = os.open(built, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ReleaseFailed(f"{name}: its build left no folder of wheels") from error
    try:
        found = sorted(
            each
            for each in os.listdir(folder)  # noqa: PTH208 - pathlib has none by descriptor
            if each.endswith(".whl")
        )
        if len(found) != 1:
            raise ReleaseFailed(f"{name}: its build left {len(found)} wheels instead of one")
        try:
            descriptor = os.open(found[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            raise ReleaseFailed(f"{name}: its build left something that is no file") from error
        with os.fdopen(descriptor, "rb") as wheel:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ReleaseFailed(f"{name}: its build left something that is no file")
            with (wheels / found[0]).open("wb") as copy:
                shutil.copyfileobj(wheel, copy)
    finally:
        os.close(folder)
    return wheels / found[0]
