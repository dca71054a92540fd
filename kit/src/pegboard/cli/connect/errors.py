"""Why a configuration file is left as it is."""

from __future__ import annotations


class Unreadable(Exception):
    """The text is not what the client's syntax asks for.

    Attributes:
        line: of the fault, counted from 1; 0 where it has no one place.
        column: likewise.
    """

    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.line = line
        self.column = column
        super().__init__(f"{what} (line {line}, column {column})" if line else what)
