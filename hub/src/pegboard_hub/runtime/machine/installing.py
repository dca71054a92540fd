"""From an artifact to code that can be started: without network, without running any of it, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from pegboard.core.archive import ArchiveRefused, unpack
from pegboard.core.manifest import read_manifest
from pegboard.core.names import ServerName
from pegboard.core.publishing import Artifact
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.foreign import install_backend_files
from pegboard_hub.runtime.permissions import ROOT, Right, give, ids
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.releases import install_wheels
from pegboard_hub.runtime.users import is_root
from pegboard_hub.runtime.workshop import Workshop

FORMAT = "1"
"""Changes when artifacts are installed otherwise, so that old ones are installed again."""

STAMP = "installed"
DECLARATION = "declaration.json"

KEPT = 3
"""Installed releases of one server that are kept when nothing desires them, the newest ones."""


async def install(shop: Workshop, artifact: Artifact, store: ArtifactStore) -> None:
    """Install an artifact, whose files are here, into the workshop's folder, which is new.

    Raises:
        ReleaseFailed: a file is not what it should be, or cannot be installed.
        OSError: a file cannot be written.
    """
    python = f"{shop.isolation.python}"
    shop.folder.mkdir(parents=True, exist_ok=True)
    wheels = shop.folder / "wheels"
    wheels.mkdir()
    named: list[Path] = []
    for file in artifact.files:
        if not file.name.endswith(".whl") or "/" in file.name:
            continue
        content = (await store.file(file)).read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:  # on this disk since whenever
            raise ReleaseFailed(
                f"{file.name} is not what it was when it was fetched; remove it from the home's `artifacts` folder"
            )
        named.append(wheels / file.name)
        named[-1].write_bytes(content)
    await shop.run_uv(["venv", "--no-project", "--relocatable", "--python", python, str(shop.environment)])
    if named:
        await install_wheels(shop, named)
    remove_tree(wheels)
    _unpack_project((await store.own(artifact.project)).read_bytes(), artifact, shop.project)
    await install_backend_files(shop, read_manifest(shop.project), list(artifact.files), store)
    await shop.compile()


def _unpack_project(archive: bytes, artifact: Artifact, target: Path) -> None:
    if hashlib.sha256(archive).hexdigest() != artifact.project:
        raise ReleaseFailed("its manifest and policies are not what they were when they were fetched")
    try:
        files = unpack(archive)
    except ArchiveRefused as error:
        raise ReleaseFailed(f"its manifest and policies cannot be read: {error}") from error
    for path, file in files.items():
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        if file.executable:
            place.chmod(0o755)


class Installed:
    """Releases of submitted servers on this machine, side by side."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, server: ServerName, artifact: Artifact, declaration: Declaration) -> Program | None:
        """The release if it is installed whole; what is there of one that is not is removed."""
        folder = self._home.made(server, artifact.digest)
        with suppress(OSError):
            if (folder / STAMP).read_text(encoding="utf-8").strip() == self._stamp(artifact):
                return self._program(server, artifact, declaration, folder)
        remove_tree(folder)
        return None

    def take(self, made: Path, server: ServerName, artifact: Artifact) -> None:
        """Take what was made elsewhere in the home over, in one step; nothing where it is there already.

        Raises:
            OSError: it cannot be moved.
        """
        folder = self._home.made(server, artifact.digest)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (made / STAMP).write_text(self._stamp(artifact) + "\n", encoding="utf-8")
        if not folder.exists():
            made.rename(folder)

    def hand_over(self, isolation: Isolation, program: Program) -> None:
        """Let the server's user read its release, and nobody else.

        Raises:
            OSError: a file cannot be written or given away.
        """
        gid = ids(isolation, str(program.server))[1]
        replace_file(program.pinned, program.declaration.canonical + "\n")
        os.utime(program.pinned.parent)
        if is_root():
            for part in (program.environment, program.project):
                give(Right(part, ROOT, gid, 0o750))

    def prune(self, server: ServerName, desired: set[str]) -> None:
        """Remove what nothing desires any more, but for the newest ones."""
        parent = self._home.made(server, "").parent
        folders = sorted(parent.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
        kept = {digest[:16] for digest in desired}
        for folder in [each for each in folders if each.name not in kept][KEPT:]:
            remove_tree(folder)

    def _stamp(self, artifact: Artifact) -> str:
        return f"{FORMAT} {artifact.digest}"

    def _program(self, server: ServerName, artifact: Artifact, declaration: Declaration, folder: Path) -> Program:
        environment = folder / "env"
        return Program(
            server,
            declaration.digest,
            artifact.digest,
            declaration,
            environment / "bin" / "python",
            environment,
            folder / "project",
            folder / DECLARATION,
        )
