"""One line of a log: a JSON object that says when, how grave, who, what, and within which request.

What belongs to a request is noted once, with `annotated`, and stands on every line that is logged within it, also on
an author's own. Annotations are for reading: nothing is ever decided by them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

LONGEST_TEXT = 8_192
"""Characters of a message, or of an exception's trace, that are logged; callers and authors may say anything."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class _Note:
    """What is known of a request. It ends with the request, also where a task that outlives it has inherited it."""

    __slots__ = ("ended", "fields")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields
        self.ended = False


_NOTE: ContextVar[_Note | None] = ContextVar("pegboard_log_note", default=None)


@contextmanager
def annotated(**fields: str | None) -> Iterator[None]:
    """Put `fields` on every line that is logged within the block, beside those of the block around it."""
    note = _Note({**noted(), **{name: value for name, value in fields.items() if value}})
    before = _NOTE.set(note)
    try:
        yield
    finally:
        note.ended = True
        _NOTE.reset(before)


def noted() -> Mapping[str, str]:
    """What stands on a line that is logged here and now."""
    note = _NOTE.get()
    return {} if note is None or note.ended else note.fields


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON, in ASCII: no text in it can begin a line of its own or move a terminal.

    What was passed as `extra` cannot take the place of a field that the platform sets.
    """

    def __init__(self, fixed: Mapping[str, str] | None = None, extra_under: str = "") -> None:
        """Prepare.

        Args:
            fixed: fields of every line.
            extra_under: the key that holds what was passed as `extra`; without one, each is a key of the line. Where
                authors' code logs it must have one, so that no key of theirs reads as ours.
        """
        super().__init__()
        self._fixed = dict(fixed or {})
        self._extra_under = extra_under

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        ours: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(_message(record)),
            **self._fixed,
            **noted(),
        }
        if record.exc_info:
            ours["exception"] = _cut(self.formatException(record.exc_info), end=True)
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if extra and self._extra_under:
            extra = {self._extra_under: extra}
        return _dumped(ours, {key: value for key, value in extra.items() if key not in ours})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # wrong arguments for its placeholders: the line still comes
        return f"{_text(record.msg)} {_text(record.args)}"


def _dumped(ours: dict[str, object], extra: dict[str, object]) -> str:
    try:
        return json.dumps(ours | extra, default=_text, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # what JSON cannot hold: nan, odd keys, a loop
        return json.dumps(ours | {key: _text(value) for key, value in extra.items()}, default=_text)


def _text(value: object) -> str:
    try:
        return _cut(str(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _cut(text: str, *, end: bool = False) -> str:
    """At most `LONGEST_TEXT` characters, of the beginning or of the end, and how many are missing."""
    missing = len(text) - LONGEST_TEXT
    if missing <= 0:
        return text
    return f"({missing} characters) … {text[missing:]}" if end else f"{text[:LONGEST_TEXT]} … ({missing} characters)"
