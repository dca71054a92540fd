"""What one query, one caller and the whole server may use. README.md shows this table, and a test holds it to it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _limit(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits and their defaults. Each refusal names the figure, the limit and the way out."""

    per_caller: int = _limit(2, "queries one person or service may have running or waiting")
    at_once: int = _limit(4, "queries that run at the same time")
    waiting: int = _limit(8, "queries that wait for a turn; further ones are refused")
    wait_seconds: float = _limit(10.0, "a query waits for its turn at most")
    seconds: float = _limit(20.0, "one query runs at most")
    scan_mb: int = _limit(256, "MB of columns that one query's plan may read, before compression")
    memory_mb: int = _limit(128, "MB of memory that all running queries share; nothing is written to disk instead")
    threads: int = _limit(2, "threads that all running queries share")
    most_scan_mb: int = _limit(2048, "MB that `run_expensive_query` may read; past `scan_mb` a person approves it")
    most_seconds: float = _limit(45.0, "one query of `run_expensive_query` runs at most")
    own_tables: int = _limit(32, "tables of people's own that there may be")
    own_rows: int = _limit(500_000, "rows that one of them may have")
    own_mb: int = _limit(32, "MB of values, as text, that all of them may hold together")


def rows(limits: Limits) -> list[tuple[str, str, str]]:
    """Name, value and meaning of each limit."""
    return [(f.name, f"{getattr(limits, f.name):g}", f.metadata["meaning"]) for f in fields(limits)]


def for_a_model(limits: Limits) -> str:
    """The limits that help whoever writes a query."""
    return (
        f"A query may run {limits.seconds:g} s, read {limits.scan_mb} MB of columns and share {limits.memory_mb} MB "
        f"of memory; one caller may have {limits.per_caller} queries at once."
    )
