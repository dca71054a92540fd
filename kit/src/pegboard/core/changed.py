"""What changed of a server, in words: pages and command tell it alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

WORDS = {
    "lifecycle_why": "Why so",
    "takes_any": "Takes every release",
    "uses_models": "Sends data to models",
    "gallery": "In the public list",
    "reason": "Granted by",
    "stopped": "Stopped for everybody",
    "stopped_tools": "Stopped tools",
    "approvals": "Tools that need an approval",
    "waiting": "Release that waits",
    "release": "Deployed release",
    "source": "Where its code is",
    "ends_at_ms": "Closes on",
}
"""Fields that read badly with their own name."""


class Told(NamedTuple):
    """One field's change: what was taken away, and what was put there."""

    field: str
    gone: tuple[str, ...]
    new: tuple[str, ...]


def told(fields: Mapping[str, tuple[Any, Any]]) -> tuple[Told, ...]:
    """Changes of fields as people read them: of lists and tables only what came and what went."""
    return tuple(_told(name, before, after) for name, (before, after) in fields.items())


def words(field: str) -> str:
    """What a field is called."""
    return WORDS.get(field, field.replace("_", " ").capitalize())


def _told(name: str, before: Any, after: Any) -> Told:
    was, now = (_lines(_moment(each) if name.endswith("_ms") else each) for each in (before, after))
    if isinstance(before, list | dict) or isinstance(after, list | dict):
        return Told(
            words(name),
            tuple(line for line in was if line not in now),
            tuple(line for line in now if line not in was),
        )
    return Told(words(name), was, now)


def _moment(value: Any) -> Any:
    """A time in milliseconds since the epoch, as people read it; anything else as it is."""
    if not isinstance(value, int):
        return value
    return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _lines(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, list):
        return tuple(_text(each) for each in value)
    if isinstance(value, dict):
        return tuple(f"{key}: {_text(each)}" for key, each in value.items())
    return (_text(value),)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_text(each)}" for key, each in value.items() if each != "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
