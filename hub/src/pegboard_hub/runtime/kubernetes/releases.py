"""What pods fetch releases from: files by digest, of releases that should run and of nothing else.

Pods reach no package index: what they install comes from here, and is verified by them once more. Who may come is the
sidecar's to say (`edge.sidecar`): pods of servers, by their certificates.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pegboard.core.errors import PegboardError
from pegboard.core.publishing import Artifact, ArtifactFile
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.machine.artifacts import ArtifactStore, Own

logger = logging.getLogger(__name__)

FILES: Final = "/v1/files/{digest}"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class HubStore(ArtifactStore):
    """The files, as a runtime elsewhere has them: the platform's own wheels come from the hub as well.

    Args:
        home: where they are kept.
        own: asks the hub for what was built.
        platform: asks the hub for a wheel of the platform's.
    """

    def __init__(self, home: Home, own: Own, platform: Own) -> None:
        super().__init__(home, own, dict)
        self._files = home
        self._wheel = platform

    async def file(self, file: ArtifactFile) -> Path:
        """One file, fetched where it is not here."""
        if file.origin != "platform":
            return await super().file(file)
        kept = self._files.artifact_file(file.sha256)
        return kept if kept.exists() else self.keep(await self._wheel(file.sha256), file.sha256, "the hub")


class ReleaseDoor:
    """Serves at a Unix socket.

    Args:
        store: has the files, and fetches what it has not.
        path: of the socket.
    """

    def __init__(self, store: ArtifactStore, path: Path) -> None:
        self.application = Starlette(routes=[Route(FILES, self._file, methods=["GET"])])
        self._store = store
        self._path = path
        self._files: dict[str, ArtifactFile | None] = {}

    def offer(self, artifacts: Iterable[Artifact]) -> None:
        """Serve the files of these artifacts from now on, and no others."""
        files: dict[str, ArtifactFile | None] = {}
        for artifact in artifacts:
            files |= {each.sha256: each for each in artifact.files}
            files[artifact.project] = None
        self._files = files

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the socket cannot be bound.
        """
        self._path.unlink(missing_ok=True)
        config = uvicorn.Config(
            self.application, lifespan="off", ws="none", access_log=False, log_config=None, server_header=False
        )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o660)
            await _Quiet(config).serve(sockets=[listener])
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _file(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if not _DIGEST.fullmatch(digest) or digest not in self._files:
            return JSONResponse({"message": "no release that should run here has such a file"}, 404)
        file = self._files[digest]
        try:
            path = await (self._store.own(digest) if file is None else self._store.file(file))
        except (PegboardError, httpx2.HTTPError, OSError) as error:
            logger.warning("a file of a release cannot be had: %s", error, extra={"digest": digest})
            return JSONResponse({"message": str(error)[:500]}, 503)
        return FileResponse(path, media_type="application/octet-stream")


class _Quiet(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them."""
        yield
