"""Making a server's release: its own environment, a copy of its project, and what it declares, read in isolation.

A release needs nothing of the folder it was made from: the project and its local packages are installed, not linked.
A stamp with the digest of everything it was made from lets the next start take it as it is.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, Manifest, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.pins import FILE_NAME as PINS
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.packages.shelf import KeptWheel, Shelf
from pegboard_hub.packages.wheel import KIT
from pegboard_hub.runtime.backends import install_backend
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.packages import PackageBuilder
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.sdists import SdistBuilder
from pegboard_hub.runtime.source import Source
from pegboard_hub.runtime.workshop import Report, Workshop

FORMAT = "4"
"""Changes when releases are laid out or declared anew, so that old ones are made again."""


@dataclass(frozen=True, slots=True)
class Release:
    """One server's release on disk, ready to run.

    Attributes:
        source: digest of everything it was made from, its code included; `digest` is of what it declares alone.
    """

    server: ServerName
    declaration: Declaration
    python: Path
    source: str

    @property
    def digest(self) -> str:
        """Content address of what the release declares."""
        return self.declaration.digest

    def program(self, home: Home) -> Program:
        """What runs of it."""
        server = self.server
        return Program(
            server,
            self.digest,
            self.source,
            self.declaration,
            self.python,
            home.environment(server),
            home.project(server),
            home.declaration(server),
        )


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
        shop = Workshop(str(server), home.release(server), home.work(server), self._isolation, self._uv)
        try:
            source = Source.read(project)
            kit = self._kit(source)
            more = [kit.digest] if kit is not None else []
            digest = source.digest(FORMAT, str(self._isolation.python), str(home.release(server)), *more)
            if (kept := self._kept(shop, server, digest)) is not None:
                return kept
            for stale in (self._stamp(server), home.declaration(server)):
                stale.unlink(missing_ok=True)
            manifest = read_manifest(project)
            if manifest.name != server.name:
                raise ReleaseFailed(f"pegboard.toml names it {manifest.name!r}, and it is granted as {server}")
            report("installing its environment")
            await self._install(shop, source, kit, report)
            self._copy_project(server, source, manifest)
            await install_backend(shop, project, manifest, report)
            shop.make_ready()
            report("reading its tools")
            declaration = await shop.describe()
        except (ConfigurationError, OSError) as error:
            raise ReleaseFailed(str(error)) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A project can be wrong in ways nobody foresaw; the other servers start all the same.
            raise ReleaseFailed(f"its files cannot be read ({type(error).__name__}: {error})") from error
        replace_file(home.declaration(server), declaration.canonical + "\n")
        replace_file(self._stamp(server), digest + "\n")
        return Release(server, declaration, shop.python, digest)

    def _kept(self, shop: Workshop, server: ServerName, digest: str) -> Release | None:
        with suppress(OSError, ValidationError):
            if self._stamp(server).read_text(encoding="utf-8").strip() == digest and shop.python.exists():
                text = self._home.declaration(server).read_text(encoding="utf-8")
                return Release(server, Declaration.model_validate_json(text), shop.python, digest)
        return None

    def _kit(self, source: Source) -> KeptWheel | None:
        """The platform's own wheel of the kit that is locked; None where the kit is a local package."""
        if not source.kit:
            return None
        shelf = Shelf(self._home)
        shelf.keep_current()
        kept = shelf.of_version(source.kit)
        if kept is None:
            mend = f"run `uv lock --upgrade-package {KIT}`; there are {', '.join(shelf.versions())}"
            raise ReleaseFailed(
                f"the kit that it locks, {KIT} {source.kit}, is not one that this Pegboard has: {mend}"
            )
        return kept

    async def _install(self, shop: Workshop, source: Source, kit: KeptWheel | None, report: Report) -> None:
        """Install what the lock file says from wheels, then the platform's kit and the local packages.

        The environment's own Python never runs out here: it runs what `.pth` files in the environment say. So the
        environment is made anew each time, filled from outside by the Python it is made from, and compiled by that.
        """
        remove_tree(shop.environment)
        sync = ["sync", "--frozen", "--no-dev", "--no-build", "--no-install-local"]
        apart = [*(each.name for each in source.unbuilt), *([KIT] if kit is not None else [])]
        later = [word for name in apart for word in ("--no-install-package", name)]
        await shop.run_uv([*sync, *later, "--project", str(source.project)], report=report)
        wheels = shop.folder / "wheels"
        remove_tree(wheels)
        wheels.mkdir()
        wanted = dict(await wanted_packages(shop, source.project)) if source.unbuilt else {}
        for sdist in (each for each in source.unbuilt if each.name in wanted):
            report(f"building {sdist.name}, which has no wheel")
            await SdistBuilder(shop, shop.folder / "sdists").build(sdist, wheels)
        for package in source.packages:
            await PackageBuilder(shop).build(source, package, wheels)
        own = sorted(wheels.glob("*.whl"))
        await install_wheels(shop, [*own, kit.path] if kit is not None else own, report)
        await shop.compile()

    def _copy_project(self, server: ServerName, source: Source, manifest: Manifest) -> None:
        kept, project = self._home.project(server), source.project
        remove_tree(kept)
        kept.mkdir(parents=True)
        shutil.copy(project / FILE_NAME, kept / FILE_NAME, follow_symlinks=False)
        if (project / "policies").is_dir():
            shutil.copytree(project / "policies", kept / "policies", symlinks=True)
        if manifest.proxy is not None:
            shutil.copy(project / PINS, kept / PINS, follow_symlinks=False)
            source.copy(project, kept, within=manifest.proxy.backend)

    def _stamp(self, server: ServerName) -> Path:
        return self._home.release(server) / "made-from.sha256"


async def install_wheels(shop: Workshop, wheels: list[Path], report: Report = lambda _: None) -> None:
    """Install these into the workshop's environment, by the Python that it is made from, and nothing else.

    Raises:
        ReleaseFailed: one cannot be installed.
    """
    install = ["pip", "install", "--no-deps", "--offline", "--no-index", "--reinstall"]
    into = ["--python", str(shop.isolation.python), "--prefix", str(shop.environment)]
    # What is in one wheel is some author's: it goes into no cache that another release is made from.
    own = shop.folder / "uv-cache"
    try:
        environment = {**shop.uv_environment(), "UV_CACHE_DIR": str(own)}
        await shop.run_uv([*install, *into, *map(str, wheels)], environment, report)
    finally:
        remove_tree(own)


async def wanted_packages(shop: Workshop, project: Path, but: str = "") -> list[tuple[str, str]]:
    """Names and versions of what an empty environment would get on this machine of the project's lock file, which has
    other machines' too. Package `but` is left out.

    Raises:
        ReleaseFailed: uv cannot tell.
    """
    elsewhere = {**shop.uv_environment(), "UV_PROJECT_ENVIRONMENT": str(shop.folder / "nowhere")}
    sync = ["sync", "--frozen", "--no-dev", "--no-install-local", "--dry-run", "--project", str(project)]
    sync += ["--no-install-package", but] if but else []
    lines = await shop.run_uv(sync, elsewhere)
    found = (line[2:].partition("==") for line in lines if line.startswith("+ "))
    return [(name.strip(), version.split()[0] if version.split() else "") for name, _, version in found]
