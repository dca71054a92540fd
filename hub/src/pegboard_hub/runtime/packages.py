"""Building a server's local packages: from a copy, confined and without network.

What a package's `pyproject.toml` tells the build is the author's: which program builds (`build-system.requires`) and
which files go in (`readme`, links). Outside, it would run what it likes and take what the operator can read.
"""

from __future__ import annotations

import os
from pathlib import Path

from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.confined import ReleaseFailed, run_confined
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.sdists import take_wheel
from pegboard_hub.runtime.source import Source
from pegboard_hub.runtime.workshop import Workshop

BUILD_TIMEOUT_S = 120
MOST_BYTES = 256 * 1024 * 1024
"""The largest file a build may write."""


class PackageBuilder:
    """Builds local packages in one workshop."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def build(self, source: Source, package: Path, wheels: Path) -> Path:
        """Put the wheel of `package`, one of `source`'s, into the folder `wheels`; where it is. Equal ones are equal.

        Raises:
            ReleaseFailed: it does not build.
            OSError: a file cannot be read or written.
        """
        shop = self._shop
        copy = shop.folder / "source"
        remove_tree(copy)
        copy.mkdir(mode=0o750)
        user = shop.isolation.user(shop.role)
        if user is not None:
            os.chown(copy, -1, user.gid)  # the server's own, and closed to the others
        source.copy(package, copy / package.name)
        shop.make_ready()
        work, python = shop.work, shop.isolation.python
        build = ["build", "--wheel", "--offline", "--no-config", "--no-python-downloads", "--python", str(python)]
        run = await run_confined(
            shop.isolation,
            shop.role,
            View((copy, shop.uv, *python_folders(python)), (work,)),
            work,
            [str(shop.uv), *build, "--out-dir", str(work / "built"), str(copy / package.name)],
            groups=shop.groups,
            limit_s=BUILD_TIMEOUT_S,
            most_bytes=MOST_BYTES,
            variables={"UV_CACHE_DIR": str(work / "cache")},
        )
        if run.status != 0:
            raise ReleaseFailed(f"{package.name} does not build: {run.reason}")
        wheel = take_wheel(work / "built", wheels, package.name)
        remove_tree(copy)
        return wheel
