"""Writing answers: one JSON document for programs, text and tables for people.

Data goes to stdout, everything about it to stderr. Whatever others wrote passes `text.clean` on its way; JSON
escapes by nature. Colour is never the only signal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.text import clean, line

if TYPE_CHECKING:
    from rich.console import Console

Document = Mapping[str, Any]

PIPED_WIDTH = 10_000
"""Columns of a table that goes to a file or a pipe: nothing is cut or wrapped there."""


def document(value: Any) -> None:
    """Print the one JSON document of `--json`. NaN and infinities, which are not JSON (RFC 8259 §6), become null."""
    exact = json.loads(json.dumps(value), parse_constant=lambda _: None)
    print(json.dumps(exact, indent=2))


def text(value: Any) -> None:
    """Print text that others wrote."""
    print(clean(value))


def hint(value: str) -> None:
    """Print a line about the answer, beside it."""
    print(clean(value), file=sys.stderr)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], right: frozenset[int] = frozenset()) -> None:
    """Print a table; the columns in `right` hold numbers and are set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, heading in enumerate(headings):
        grid.add_column(Text(line(heading)), justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(clean(cell)) for cell in row))
    console = _console()
    with console.capture() as drawn:
        console.print(grid)
    # Cells are padded to their column's width, the last one too: of use to nobody in a file.
    print("\n".join(row.rstrip() for row in drawn.get().splitlines()))


def failure(error: Failure, as_json: bool) -> None:
    """Print why a command did not reach its end: for people on stderr, and as the document when one was asked for."""
    if as_json:
        document({"error": error.error, **error.details})
    said = error.error
    hint(f"{_head(error)}: {line(error.headline or said['message'])}")
    if error.refused and not error.headline:
        rows = (("why", said["reason"]), ("what to do", said["what_to_do"]), ("request", said["request_id"]))
        for name, value in rows:
            # The message often ends with what to do; saying it twice makes neither clearer.
            if value and not (name == "what to do" and line(value) in line(said["message"])):
                hint(f"  {name:<11}{line(value)}")
    elif said["what_to_do"] and not error.headline:
        hint(line(said["what_to_do"]))
    for extra in error.hints:
        hint(clean(extra).replace("\n", " "))


def _head(error: Failure) -> str:
    if not error.refused:
        return "error"
    return "waiting" if error.status is ExitStatus.WAITING else f"refused by the {line(error.error['layer'])}"


def tool_result(result: Document) -> None:
    """Print what a tool answered: a table where it is one, JSON where it is structured, else its text."""
    structured = result.get("structuredContent")
    if structured is None:
        for block in result.get("content") or ():
            text(content_block(block))
        return
    # The SDK wraps what is not an object, a string for one, as {"result": …}.
    value = structured["result"] if set(structured) == {"result"} else structured
    if _is_tabular(value):
        _result_table(value)
    elif isinstance(value, str):
        text(value)
    else:
        text(json.dumps(value, indent=2, ensure_ascii=False))


def content_block(block: Document) -> str:
    """A content block as text; what is not text is named with its type and size."""
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind in ("image", "audio"):
        return f"[{kind} {block.get('mimeType', '')}, {_size(block.get('data', ''))}]"
    if kind == "resource":
        inner = block.get("resource", {})
        if "text" in inner:
            return str(inner["text"])
        return f"[resource {inner.get('uri', '')} {inner.get('mimeType', '')}, {_size(inner.get('blob', ''))}]"
    return f"[{kind} {block.get('uri', '')}]"


def _is_tabular(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    columns, rows = value.get("columns"), value.get("rows")
    return (
        isinstance(columns, list)
        and isinstance(rows, list)
        and bool(columns)
        and all(isinstance(column, Mapping) and "name" in column for column in columns)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    )


def _result_table(value: Document) -> None:
    columns, rows = value["columns"], value["rows"]
    numbers = frozenset(
        place for place in range(len(columns)) if rows and all(_is_number_or_none(row[place]) for row in rows)
    )
    table([column["name"] for column in columns], ([_cell(cell) for cell in row] for row in rows), numbers)
    print()
    text(f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}")
    if value.get("notice"):
        text(f"notice: {line(value['notice'])}")


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _size(base64_text: Any) -> str:
    padding = str(base64_text).count("=")
    return f"{len(str(base64_text)) * 3 // 4 - padding:,} bytes"


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
