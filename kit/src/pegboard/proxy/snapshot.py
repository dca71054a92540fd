"""Looking at a backend once, to pin what it says of its tools."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import anyio

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.pins import Pins
from pegboard.proxy.backend import Backend
from pegboard.proxy.starting import Launch


async def take(folder: Path, manifest: Manifest) -> Pins:
    """Start the backend of the project in `folder` as a release would, and pin what it lists.

    Raises:
        ConfigurationError: it has no `[proxy]`, or its backend does not come up.
    """
    if manifest.proxy is None:
        raise ConfigurationError("pegboard.toml", ["has no [proxy]: the tools of a kit's own server need no pins"])
    secrets = {name: os.environ[name] for name in manifest.secrets if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="pegboard-snapshot-") as own:
        backend = Backend(manifest, None, Launch(folder, Path(own), secrets))
        with anyio.fail_after(manifest.proxy.start_s * 2):
            async with backend.running():
                return await backend.as_pins()
