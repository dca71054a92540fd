"""From a source archive to an artifact: built and described in the sandbox. Equal sources give equal artifacts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pegboard.core.archive import ArchiveRefused, File, pack, unpack
from pegboard.core.check.facts import Known, to_json
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, Manifest, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.publishing import Artifact, ArtifactFile, canonical, sha256
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.backends import BACKEND
from pegboard_hub.runtime.building import backend
from pegboard_hub.runtime.building.knowing import Locks, components, known_of
from pegboard_hub.runtime.building.locked import KIT, Lock, wheel_of
from pegboard_hub.runtime.cgroups import Groups
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import Mode
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.installing import Installed, install
from pegboard_hub.runtime.packages import PackageBuilder
from pegboard_hub.runtime.releases import wanted_packages
from pegboard_hub.runtime.sdists import SdistBuilder
from pegboard_hub.runtime.source import Source, SourceDistribution
from pegboard_hub.runtime.workshop import Workshop

PROJECT_FILES = (FILE_NAME, "tools.pins.json")
POLICIES = "policies/"

SBOM = ("export", "--frozen", "--no-dev", "--format", "cyclonedx1.5", "--preview-features", "sbom-export")

Tell = Callable[[str, str], Awaitable[None]]
"""Told what a build is at: a word or two, and what of it."""


class KitWheel(Protocol):
    """A wheel of the kit that the platform has."""

    @property
    def version(self) -> str:
        """Of the kit."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hex."""

    @property
    def path(self) -> Path:
        """The file."""


KitShelf = Callable[[str], KitWheel | None]
"""The platform's own wheel of one version of the kit; None where it has none."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a source.

    Attributes:
        own: bytes that the hub keeps, each with its kind (`orders.ARTIFACTS`).
        sbom: a CycloneDX document.
        packages: what it needs of others.
        sandboxed: its tools were read in a sandbox without network.
        advisories: what is known of its packages, for the hub's check; of what an index did not say there is nothing.
    """

    artifact: Artifact
    declaration: Declaration
    own: tuple[tuple[bytes, str], ...]
    sbom: bytes
    packages: tuple[ArtifactFile, ...]
    sandboxed: bool
    advisories: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Files:
    """The files of an artifact as they come together."""

    files: list[ArtifactFile] = field(default_factory=list)
    own: list[tuple[bytes, str]] = field(default_factory=list)

    def add_own(self, path: Path, version: str = "", prefix: str = "", kind: str = "wheel") -> None:
        content = path.read_bytes()
        self.own.append((content, kind))
        name = f"{prefix}{path.name}"
        self.files.append(
            ArtifactFile(name=name, version=version, sha256=sha256(content), size=len(content), origin="own")
        )


class Builder:
    """Builds sources, one at a time for each caller.

    Args:
        home: where it works.
        isolation: how the author's code is run.
        uv: the program that builds.
        store: files of packages, which are fetched once.
        kit: the platform's own wheels.
        indexes: package indexes that lock files may name.
        groups: where control groups are made for the author's code; None: nowhere.
        keeps: what was installed on the way is kept for this machine's runtime.
    """

    def __init__(
        self,
        home: Home,
        isolation: GrowingIsolation,
        uv: Path,
        store: ArtifactStore,
        kit: KitShelf,
        indexes: Callable[[], Iterable[str]],
        groups: Groups | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._home = home
        self._isolation = isolation
        self._uv = uv
        self._store = store
        self._kit = kit
        self._indexes = indexes
        self._groups = groups
        self._installed = Installed(home) if keeps else None

    async def build(self, number: str, name: str, archive: bytes, tell: Tell) -> Made:
        """Make what there is to make of `archive`, a source of server `name`; nothing is left behind but that.

        Raises:
            OutsideFailed: something of the outside is not there now.
            ReleaseFailed: it cannot be built; the message is for its author.
            OSError: a file cannot be written.
        """
        folder = self._home.build(number)
        await asyncio.to_thread(remove_tree, folder)
        folder.mkdir(parents=True, mode=0o711)
        try:
            try:
                return await self._build(folder, ServerName.parse(name), archive, tell)
            except ExceptionGroup as group:
                raise group.exceptions[0] from group
        except (ReleaseFailed, ConfigurationError, ArchiveRefused) as error:
            kind = type(error) if isinstance(error, ReleaseFailed) else ReleaseFailed
            raise kind(_for_author(str(error), folder)) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # A project can be wrong in ways nobody foresaw.
            words = f"its files cannot be read ({type(error).__name__}: {error})"
            raise ReleaseFailed(_for_author(words, folder)) from error
        finally:
            await asyncio.to_thread(remove_tree, folder)

    async def _build(self, folder: Path, server: ServerName, archive: bytes, tell: Tell) -> Made:
        project, files = await self._unpacked(folder, server, archive, tell)
        source = await asyncio.to_thread(Source.read, project, project)
        if (declared := read_manifest(project).name) != server.name:
            raise ReleaseFailed(f"pegboard.toml names it {declared!r}, and it was submitted as {server}")
        # The author's code of a build is nobody's: it may not touch what runs of the same server.
        role = f"build of {server}"
        isolation = self._isolation.including(role)
        shop = Workshop(role, folder / "made", folder / "work", isolation, self._uv, self._groups)
        shop.folder.mkdir(mode=0o711)
        python = await self._python()
        gathered = await self._gather(shop, source, python, tell)
        packed = await asyncio.to_thread(pack, dict(_project(files, read_manifest(project))))
        own = (*gathered.own, (packed, "project"))
        artifact = Artifact(
            server=str(server),
            source=sha256(archive),
            lock=hashlib.sha256((project / "uv.lock").read_bytes()).hexdigest(),
            project=sha256(packed),
            python=python,
            kit=next((file.version for file in gathered.files if _is_kit(file)), ""),
            files=tuple(sorted(gathered.files, key=lambda file: (file.name, file.sha256))),
        )
        await self._install(shop, artifact, own, tell)
        declares, known, sbom = await self._described(shop, project, artifact, tell)
        if self._installed is not None:
            self._installed.take(shop.folder, server, artifact)
        return Made(
            artifact,
            declares.model_copy(update={"artifact": artifact.digest}),
            own,
            sbom,
            tuple(file for file in artifact.files if file.origin == "index"),
            sandboxed=self._isolation.now.mode is Mode.BUBBLEWRAP,
            advisories=to_json(known),
        )

    async def _unpacked(
        self, folder: Path, server: ServerName, archive: bytes, tell: Tell
    ) -> tuple[Path, dict[str, File]]:
        """The project's folder, and what is in it.

        In threads, as all that takes long: this process keeps everybody's, and how long a stranger's files
        take is theirs.
        """
        await tell("unpacking", f"{len(archive) // 1024 + 1} KiB")
        project, files = folder / "source" / server.name, await asyncio.to_thread(unpack, archive)
        await asyncio.to_thread(_write, files, project)
        return project, files

    async def _install(
        self, shop: Workshop, artifact: Artifact, own: Iterable[tuple[bytes, str]], tell: Tell
    ) -> None:
        for content, _ in own:
            await asyncio.to_thread(self._store.keep, content, sha256(content), "the build")
        await tell("fetching", f"{len(artifact.files)} packages")
        await self._store.fetch(artifact)
        await tell("installing", "")
        await asyncio.to_thread(remove_tree, shop.folder)
        await install(shop, artifact, self._store)

    async def _described(
        self, shop: Workshop, project: Path, artifact: Artifact, tell: Tell
    ) -> tuple[Declaration, Known, bytes]:
        """What its code declares, what is known of its packages, and what it is made of."""
        await tell("reading its tools", "")
        shop.make_ready()
        locks = await asyncio.to_thread(Locks.of, project, _backend(read_manifest(project)))
        async with asyncio.TaskGroup() as both:
            asking = both.create_task(known_of(locks, self._indexes(), shop.environment))
            describing = both.create_task(shop.describe())
        sbom = await self._sbom(shop, project, components(artifact.files, locks.npm))
        return describing.result(), asking.result(), sbom

    async def _gather(self, shop: Workshop, source: Source, python: str, tell: Tell) -> _Files:
        """Every file that it is installed from: own packages built, packages of others found in the lock file."""
        lock, found = await asyncio.to_thread(Lock, source.project / "uv.lock", self._indexes()), _Files()
        wheels = shop.folder / "wheels"
        wheels.mkdir()
        await tell("reading its lock file", "")
        if kit := lock.kit():
            found.files.append(self._kit_file(kit))
        for name, version in await wanted_packages(shop, source.project, KIT if kit else ""):
            package = lock.find(name, version)
            wheel = wheel_of(package, python)
            if wheel is not None:
                found.files.append(wheel)
            elif (sdist := _sdist(source.unbuilt, name)) is not None:
                await tell("building", f"{name}, which has no wheel")
                sdists = SdistBuilder(shop, self._home.artifact_file("sdists"), self._indexes())
                built = await sdists.build(sdist, wheels)
                await asyncio.to_thread(found.add_own, built, version)
            else:
                raise ReleaseFailed(f"{name} {version} has no wheel for this machine; choose another version of it")
        for package_folder in source.packages:
            await tell("building", package_folder.name)
            built = await PackageBuilder(shop).build(source, package_folder, wheels)
            await asyncio.to_thread(found.add_own, built)
        await self._gather_backend(shop, source.project, python, found, tell)
        return found

    async def _gather_backend(self, shop: Workshop, project: Path, python: str, found: _Files, tell: Tell) -> None:
        """The packages of a server that somebody else wrote, beside those of the proxy before it."""
        manifest = read_manifest(project)
        if manifest.proxy is None:
            return
        await tell("gathering", "its backend's packages")
        folder = project / manifest.proxy.backend
        found.files += await backend.wheels(shop, folder, python, self._indexes())
        if (packed := await backend.modules(shop, folder, found.files, self._store)) is not None:
            await asyncio.to_thread(found.add_own, packed, prefix=BACKEND, kind="file")

    def _kit_file(self, version: str) -> ArtifactFile:
        kept = self._kit(version)
        if kept is None:
            mend = "run `uv lock --upgrade-package pegboard` and submit again"
            raise ReleaseFailed(
                f"the kit that it locks, pegboard {version}, is not one that this Pegboard has: {mend}"
            )
        size = kept.path.stat().st_size
        return ArtifactFile(name=kept.path.name, version=version, sha256=kept.digest, size=size, origin="platform")

    async def _python(self) -> str:
        """`major.minor` of the Python that environments are made from."""
        ask = ["-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        process = await asyncio.create_subprocess_exec(
            str(self._isolation.now.python), *ask, stdout=asyncio.subprocess.PIPE, env={}
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    async def _sbom(self, shop: Workshop, project: Path, more: Iterable[dict[str, Any]]) -> bytes:
        """What it is made of, as CycloneDX; without when and by which run, so that equal sources have equal ones."""
        printed = await shop.ask_uv([*SBOM, "--project", str(project)])
        document: dict[str, Any] = json.loads(printed)
        document.pop("serialNumber", None)
        document.get("metadata", {}).pop("timestamp", None)
        document["components"] = [*document.get("components", []), *more]
        return canonical(document)


def _for_author(words: str, folder: Path) -> str:
    """Words that name files as the author knows them: where a build works is nobody's."""
    return re.sub(rf"{re.escape(str(folder))}/(?:source/[^/\s]+/|made/env/lib/[^/\s]+/site-packages/|)", "", words)


def _write(files: dict[str, File], folder: Path) -> None:
    folder.parent.mkdir(mode=0o700)  # nobody else's code reads it there
    folder.mkdir()
    for path, file in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(0o755 if file.executable else 0o644)


def _project(files: dict[str, File], manifest: Manifest) -> Iterator[tuple[str, File]]:
    """What a process is given of the project: byte for byte what was submitted."""
    foreign = f"{name}/" if (name := _backend(manifest)) else ""
    for path, file in files.items():
        policy = path.startswith(POLICIES) and path.endswith(".cedar") and path.count("/") == 1
        if policy or path in PROJECT_FILES or (foreign and path.startswith(foreign)):
            yield path, file


def _backend(manifest: Manifest) -> str:
    return manifest.proxy.backend if manifest.proxy is not None else ""


def _sdist(unbuilt: tuple[SourceDistribution, ...], name: str) -> SourceDistribution | None:
    return next((each for each in unbuilt if each.name == name), None)


def _is_kit(file: ArtifactFile) -> bool:
    return file.name.startswith(f"{KIT}-")
