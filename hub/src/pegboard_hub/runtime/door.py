"""A runtime's own door, where the hub asks for what it does not keep: the logs of servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pegboard_hub.publishing.orders import LOGS, LogQuestion
from pegboard_hub.runtime.interface import Runtime


class RuntimeDoor:
    """Serves at a Unix socket until cancelled. Who may connect is whoever may open it: the hub's user alone.

    Args:
        runtime: whose door it is.
        path: of the socket.
        owner: user and group that may connect; None for who runs this.
    """

    def __init__(self, runtime: Runtime, path: Path, owner: tuple[int, int] | None = None) -> None:
        self._runtime = runtime
        self._path = path
        self._owner = owner

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the socket cannot be bound.
        """
        application = Starlette(routes=[Route(LOGS, self._logs, methods=["GET"])])
        config = uvicorn.Config(
            application, lifespan="off", ws="none", access_log=False, log_config=None, server_header=False
        )
        listener = self._listener()
        try:
            await _Quiet(config).serve(sockets=[listener])
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _logs(self, request: Request) -> Response:
        try:
            question = LogQuestion.model_validate(dict(request.query_params))
            page = await self._runtime.logs(question)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            words = f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            return JSONResponse({"message": words}, 422)
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 422)
        return Response(page.model_dump_json(), media_type="application/json")

    def _listener(self) -> socket.socket:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # nobody connects between its making and its owner
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        if self._owner is not None:
            os.chown(self._path, *self._owner)
        return listener


class _Quiet(uvicorn.Server):
    """Leaves signals to the process that it is a part of, and ends when it is cancelled."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        except asyncio.CancelledError:
            self.should_exit = self.force_exit = True
            if self.started:  # or who asked before would be answered by what is closed
                await self.shutdown(sockets)
            raise
