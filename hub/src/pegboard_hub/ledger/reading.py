"""Telling the records of a delivery that can be read from those that cannot.

A server of another version, or a broken one, may deliver what this hub does not understand. That stays its own
problem: what can be read is taken, the rest is kept as it came for whoever looks into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pegboard.core.record import ID_LENGTH, RECORD, Denial, Intent, Outcome, Rejection

TEXT_LENGTH = 4096
"""Characters, all of them ASCII, that are kept of a record that cannot be read."""

PROBLEM_LENGTH = 300
KIND_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that cannot be read.

    Attributes:
        rejection: what its server is told; printable ASCII.
        digest: SHA-256 of the whole record as JSON, in hex: by it a repeated delivery is known.
        text: the record as JSON, its beginning if it is long.
    """

    rejection: Rejection
    digest: str
    text: str


def read_records(delivered: Iterable[Any]) -> tuple[list[Intent | Outcome | Denial], list[Unreadable]]:
    """The records of a delivery that can be read, and the others."""
    records, unreadable = [], []
    for item in delivered:
        try:
            records.append(RECORD.validate_python(item))
        except ValidationError as error:
            unreadable.append(_unreadable(item, error))
    return records, unreadable


def _unreadable(item: Any, error: ValidationError) -> Unreadable:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "record"
    named = item if isinstance(item, dict) else {}
    rejection = Rejection(
        id=_printable(named.get("id"), ID_LENGTH),
        kind=_printable(named.get("kind"), KIND_LENGTH),
        problem=_printable(f"{where}: {fault['msg']}", PROBLEM_LENGTH),
    )
    text = json.dumps(item)
    return Unreadable(rejection, hashlib.sha256(text.encode()).hexdigest(), text[:TEXT_LENGTH])


def _printable(value: Any, length: int) -> str:
    """Text that no log, database or answer stumbles over, whatever a server sent; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return value[:length].encode("unicode_escape").decode("ascii")[:length]
