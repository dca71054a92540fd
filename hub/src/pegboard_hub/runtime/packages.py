"""Building a server's local packages: from a copy, confined and without network.

What a package's `pyproject.toml` tells the build is the author's: which program builds (`build-system.requires`) and
which files go in (`readme`, links). Outside, it would run what it likes and take what the operator can read.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.confined import ReleaseFailed, run_confined
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.permissions import prepare_server
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.sdists import take_wheel
from pegboard_hub.runtime.source import Source

BUILD_TIMEOUT_S = 120
MOST_BYTES = 256 * 1024 * 1024
"""The largest file a build may write."""


class PackageBuilder:
    """Builds local packages for one instance.

    Args:
        home: where work and releases are.
        isolation: how a build is run.
        uv: the program that builds.
    """

    def __init__(self, home: Home, isolation: Isolation, uv: Path) -> None:
        self._home = home
        self._isolation = isolation
        self._uv = uv

    async def build(self, server: ServerName, source: Source, package: Path, wheels: Path) -> None:
        """Put the wheel of `package`, one of `source`'s, into the folder `wheels`.

        Raises:
            ReleaseFailed: it does not build.
            OSError: a file cannot be read or written.
        """
        copy = self._home.release(server) / "source"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o750)
        user = self._isolation.user(str(server))
        if user is not None:
            os.chown(copy, -1, user.gid)  # the server's own, and closed to the others
        source.copy(package, copy / package.name)
        prepare_server(self._home, self._isolation, server)  # an empty working folder
        work, python = self._home.work(server), self._isolation.python
        build = ["build", "--wheel", "--offline", "--no-config", "--no-python-downloads", "--python", str(python)]
        run = await run_confined(
            self._isolation,
            server,
            View((copy, self._uv, *python_folders(python)), (work,)),
            work,
            [str(self._uv), *build, "--out-dir", str(work / "built"), str(copy / package.name)],
            limit_s=BUILD_TIMEOUT_S,
            most_bytes=MOST_BYTES,
            variables={"UV_CACHE_DIR": str(work / "cache")},
        )
        if run.status != 0:
            raise ReleaseFailed(f"{package} does not build: {run.reason}")
        take_wheel(work / "built", wheels, package.name)
        shutil.rmtree(copy)
