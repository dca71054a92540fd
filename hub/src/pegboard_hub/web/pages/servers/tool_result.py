"""A tool's result as a page shows it: text, tables of rows, the rest as JSON. All of it is a stranger's text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pegboard_hub.web.pages.servers.schemas import written

MOST_TEXT = 20_000
"""Characters of one text that are shown."""

MOST_BLOCKS = 20
MOST_ROWS = 200
MOST_COLUMNS = 20
MOST_CELL = 300


class Table(NamedTuple):
    """Rows of a structured result.

    Attributes:
        more: how many rows are not shown.
        figures: columns of numbers alone, by their place.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int
    figures: frozenset[int] = frozenset()


class Shown(NamedTuple):
    """A result.

    Attributes:
        failed: whether the tool says that it failed.
        texts: what it says.
        tables: rows that its structured answer has.
        raw: its structured answer as JSON; empty where there is none.
        others: what it has beside that is not shown, in words.
    """

    failed: bool
    texts: tuple[str, ...]
    tables: tuple[Table, ...]
    raw: str
    others: tuple[str, ...]


def shown_result(result: Mapping[str, Any], tool: str = "") -> Shown:
    """What a page shows of a result (MCP `CallToolResult`).

    Args:
        tool: whose result it is. The SDK says it again before what went wrong; the page knows.
    """
    content = result.get("content")
    blocks = (
        [block for block in content if isinstance(block, dict)][:MOST_BLOCKS] if isinstance(content, list) else []
    )
    structured, before = result.get("structuredContent"), f"Error executing tool {tool}: "
    texts = [_cut(str(block.get("text", "")).removeprefix(before)) for block in blocks if block.get("type") == "text"]
    tables = tuple(_tables(structured)) if isinstance(structured, dict | list) else ()
    raw = written(structured, MOST_TEXT) if structured is not None else ""
    if structured is not None:
        # What is told once as data is not told again as the same data in a text.
        texts = [text for text in texts if not _is_the_same(text, structured)]
    return Shown(result.get("isError") is True, tuple(texts), tables, raw, tuple(_others(result, blocks)))


def _others(result: Mapping[str, Any], blocks: list[dict[str, Any]]) -> Iterator[str]:
    if result.get("resultType") == "input_required":
        yield "It asks for more before it goes on, which this page cannot give. Call it from a client."
    for block in blocks:
        kind = block.get("type")
        if kind in ("image", "audio"):
            yield f"{kind} of type {str(block.get('mimeType', 'unknown'))[:60]}, which is not shown"
        elif kind == "resource_link":
            yield f"a link to the resource {str(block.get('uri', ''))[:300]}"
        elif kind == "resource":
            found = block.get("resource")
            uri = found.get("uri", "") if isinstance(found, dict) else ""
            yield f"the resource {str(uri)[:300]}, which is not shown"


def _tables(structured: Any) -> Iterator[Table]:
    if isinstance(structured, list):
        yield from _rows("Rows", structured)
        return
    columns, rows = structured.get("columns"), structured.get("rows")
    if isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
        yield _table("Rows", [_column(each) for each in columns], rows)
        return
    for name, value in list(structured.items())[:MOST_BLOCKS]:
        if isinstance(value, list):
            yield from _rows(name, value)


def _rows(title: str, values: list[Any]) -> Iterator[Table]:
    if values and all(isinstance(value, dict) for value in values):
        columns = list(dict.fromkeys(key for value in values[:MOST_ROWS] for key in value))
        yield _table(title, columns, [[value.get(column) for column in columns] for value in values])


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    kept = [tuple(_cell(value) for value in row[:MOST_COLUMNS]) for row in rows[:MOST_ROWS]]
    names = tuple(name[:MOST_CELL] for name in columns[:MOST_COLUMNS])
    whole = tuple((*row, *([""] * (len(names) - len(row))))[: len(names)] for row in kept)
    figures = frozenset(place for place in range(len(names)) if _all_figures(rows[:MOST_ROWS], place))
    return Table(title[:MOST_CELL], names, whole, max(len(rows) - MOST_ROWS, 0), figures)


def _all_figures(rows: list[list[Any]], place: int) -> bool:
    said = [row[place] for row in rows if place < len(row) and row[place] is not None]
    return bool(said) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in said)


def _column(described: Any) -> str:
    return str(described.get("name", "")) if isinstance(described, dict) else str(described)


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CELL else f"{text[:MOST_CELL]}…"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n… {len(text) - MOST_TEXT:,} characters more"


def _is_the_same(text: str, structured: Any) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(found == structured or (isinstance(structured, dict) and found == structured.get("result")))
