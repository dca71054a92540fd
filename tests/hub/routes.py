"""Routes that are worked out when they are first asked: a test asks few of the hub's hundred.

FastAPI reads each endpoint's signature and builds a validator for each parameter while an application is put
together. That was most of what opening a hub cost, and thousands of tests open one. A hub that runs as a process
does it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fastapi import APIRouter
from fastapi.dependencies import models
from fastapi.routing import APIRoute
from starlette.routing import compile_path, get_name


class LateRoute(APIRoute):
    """A route that knows its path and its methods, and works out the rest when somebody wants any of it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **said: Any) -> None:
        self._said = said
        self.path, self.endpoint = path, endpoint
        self.name = said.get("name") or get_name(endpoint)
        self.methods = {method.upper() for method in said.get("methods") or ["GET"]}
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)

    def __getattr__(self, name: str) -> Any:
        said = self.__dict__.pop("_said", None)
        if said is None:
            raise AttributeError(name)
        super().__init__(self.path, self.endpoint, **said)
        return getattr(self, name)


@contextmanager
def late_routes() -> Iterator[None]:
    """Routers that are made here have such routes."""
    with patch.dict(APIRouter.__init__.__kwdefaults__, route_class=LateRoute):
        yield


def forget_endpoints() -> None:
    """Let go of hubs that were closed.

    FastAPI remembers of its last thousands of endpoints what they are, and an endpoint of ours holds its whole hub:
    of a run's hubs a thousand stayed, and each look for garbage went through them all.
    """
    for remembered in vars(models).values():
        if (forget := getattr(remembered, "cache_clear", None)) is not None:
            forget()
