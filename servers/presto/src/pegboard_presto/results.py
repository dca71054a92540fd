"""What the tools answer: models, and turning the engine's values into JSON that loses nothing silently."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from pegboard_presto.ads import GroupBy

MAX_CELL = 2_000
"""Characters of one text; longer ones are cut and marked."""

MAX_ITEMS = 200
"""Entries of one list or map."""

MAX_RESULT = 400_000
"""Characters of all rows together, as JSON."""

_SAFE_INTEGER = 2**53


class ResultColumn(BaseModel):
    """A column of a result."""

    name: str
    type: str = Field(description="the engine's type")


class QueryResult(BaseModel):
    """Rows, and how they came to be."""

    columns: list[ResultColumn]
    rows: list[list[Any]] = Field(
        description="values in the columns' order; decimals and integers beyond 2^53 are text, NaN and infinity null"
    )
    row_count: int
    truncated: bool = Field(description="true when there were more rows, or longer values, than are shown")
    notice: str = Field(description="what was cut and how to get it; empty when nothing was")
    elapsed_ms: float
    sql: str = Field(description="what the engine ran, translated from Presto SQL")


class TableSummary(BaseModel):
    """One open table."""

    name: str
    comment: str
    row_count: int
    columns: int = Field(description="number of columns")


class TableList(BaseModel):
    """The open tables."""

    tables: list[TableSummary]


class ColumnDescription(BaseModel):
    """One column of an open table."""

    name: str
    type: str
    comment: str


class TableDescription(BaseModel):
    """One open table in full."""

    name: str
    comment: str
    row_count: int
    columns: list[ColumnDescription]
    sample: list[list[Any]] = Field(description="three rows, values in the columns' order")


class WrittenTable(BaseModel):
    """A table of people's own, as it was written."""

    table: str
    rows_before: int = Field(description="0 when there was none")
    rows: int
    columns: list[ResultColumn]
    sql: str = Field(description="what the engine ran, translated from Presto SQL")


class DroppedTable(BaseModel):
    """A table that is no more."""

    table: str
    rows: int = Field(description="that it had")


class DroppedTables(BaseModel):
    """What was dropped, all of it at once."""

    dropped: list[DroppedTable]


class RevenueRow(BaseModel):
    """Sums of one group, or of all."""

    group: str
    impressions: int
    clicks: int
    click_rate: float = Field(description="clicks per impression")
    revenue_usd: str = Field(description="US dollars, exact to the cent")


class RevenueMetrics(BaseModel):
    """Ads revenue of a span of days."""

    start_day: date
    end_day: date = Field(description="included")
    group_by: GroupBy
    rows: list[RevenueRow]
    total: RevenueRow = Field(description="over all groups, those cut by limit included")
    notice: str = Field(description="what was cut; empty when nothing was")
    source: str


class Cutter:
    """Turns the engine's values into JSON values and remembers whether it cut any."""

    def __init__(self) -> None:
        self.cut_values = False
        self.cut_rows = False

    def rows(self, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """JSON-safe rows; the rest is left out once `MAX_RESULT` is reached."""
        kept: list[list[Any]] = []
        size = 0
        for row in rows:
            values = [self.value(value) for value in row]
            size += len(json.dumps(values))
            if size > MAX_RESULT and kept:
                self.cut_rows = True
                break
            kept.append(values)
        return kept

    def value(self, value: Any) -> Any:
        """One JSON-safe value."""
        match value:
            case None | bool():
                return value
            case int():
                return value if abs(value) <= _SAFE_INTEGER else str(value)
            case float():
                return value if math.isfinite(value) else None
            case str():
                return self._text(value)
            case Decimal():
                return str(value) if value.is_finite() else None
            case datetime() | date() | time():
                return value.isoformat()
            case bytes():
                return self._text(value.hex())
            case list() | tuple():
                return [self.value(item) for item in self._some(value)]
            case dict():
                return {self._text(str(key)): self.value(value[key]) for key in self._some(list(value))}
        return self._text(str(value))

    def _text(self, text: str) -> str:
        if len(text) <= MAX_CELL:
            return text
        self.cut_values = True
        return text[:MAX_CELL] + "…"

    def _some(self, items: Sequence[Any]) -> Sequence[Any]:
        if len(items) <= MAX_ITEMS:
            return items
        self.cut_values = True
        return items[:MAX_ITEMS]
