"""Statements of the embedded database that a worker compiles once, as a hub that runs as a process does.

SQLAlchemy keeps what it compiled with the engine, and thousands of tests open a hub with an engine of its own: what
each of them compiled was a quarter of what opening a hub cost, and more in what it was asked then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pegboard_hub.storage import database

_compiled: dict[Any, Any] = {}
_dialects: list[Dialect] = []


@contextmanager
def compiled_once() -> Iterator[None]:
    """Engines of the embedded database that are made here share what they compiled."""
    with patch.object(database, "create_async_engine", _made):
        yield


def _made(*about: Any, **options: Any) -> AsyncEngine:
    engine = create_async_engine(*about, **options)
    if not _dialects:
        _dialects.append(engine.sync_engine.dialect)
    engine.sync_engine.dialect = _dialects[0]  # a statement is kept by its dialect
    engine.sync_engine.update_execution_options(compiled_cache=_compiled)
    return engine
