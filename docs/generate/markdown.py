"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold any text but line breaks."""
    lines = [_row(head), f"|{'---|' * len(head)}", *(_row([_cell(text) for text in row]) for row in rows)]
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """Text as it is typed; nothing where there is none."""
    return f"`{text}`" if text else ""


def _row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _cell(text: str) -> str:
    """One cell: on one line, without a full stop at its end where it is no whole paragraph."""
    words = " ".join(text.split()).replace("|", "\\|")
    return words if ". " in words else words.removesuffix(".")
