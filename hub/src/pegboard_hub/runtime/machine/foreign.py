"""A foreign server's own packages, laid where the proxy before it looks: from an artifact's files alone."""

from __future__ import annotations

from pegboard.core.manifest import Manifest
from pegboard.core.publishing import ArtifactFile
from pegboard_hub.runtime.backends import BACKEND, PACKED, install_into, unpack_modules
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.workshop import Workshop


async def install_backend_files(
    shop: Workshop, manifest: Manifest, files: list[ArtifactFile], store: ArtifactStore
) -> None:
    """Lay the backend's packages into the workshop's copy of the project, from an artifact's files.

    Raises:
        ReleaseFailed: one cannot be laid there.
        OSError: one cannot be written.
    """
    mine = {file.name.removeprefix(BACKEND): file for file in files if file.name.startswith(BACKEND)}
    if manifest.proxy is None or not mine:
        return
    target = shop.project / manifest.proxy.backend
    if (packed := mine.pop(PACKED, None)) is not None:
        unpack_modules(await store.file(packed), target)
    if mine:
        await install_into(shop, target / ".venv", {name: await store.file(file) for name, file in mine.items()})
