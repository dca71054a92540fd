"""What may stand in a server's record: the rules for what people type, by field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pegboard.core.declared import LONGEST_TITLE, mistakable
from pegboard.core.manifest import LONGEST_LINK, MOST_LINKS, Manifest, Sensitivity, link_problem
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN, ServerName
from pegboard.core.text import hidden_in, mixed_in
from pegboard_hub.registry.errors import ChangeRefused

RECORD_FIELDS = (
    "title",
    "description",
    "owner",
    "support_channel",
    "links",
    "sensitivity",
    "gallery",
    "uses_models",
)
"""What describes a server. Once it has a release, its manifest says all of this."""

LONGEST_DESCRIPTION = 100
LONGEST_CHANNEL = 100
LONGEST_WHY = 1000


def record_of(manifest: Manifest) -> dict[str, Any]:
    """The record as a manifest says it."""
    said = {name: getattr(manifest, name) for name in RECORD_FIELDS}
    return said | {"links": dict(said["links"])}


def check_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, cleaned, of whichever fields are given.

    Raises:
        ChangeRefused: a field is unknown, or has a value that it cannot have.
    """
    unknown = sorted(values.keys() - set(RECORD_FIELDS))
    if unknown:
        raise ChangeRefused(unknown[0][:64], "there is no such field", f"Known are {', '.join(RECORD_FIELDS)}.")
    return {name: _CHECKS[name](name, value) for name, value in values.items()}


NAME_MEND = "Write it as NAMESPACE/NAME, for example prod/presto."


def check_server_name(text: str) -> ServerName:
    """A server's full name.

    Raises:
        ChangeRefused: it is none.
    """
    try:
        return ServerName.parse(text)
    except ValueError as error:
        raise ChangeRefused("server", str(error)[:300], NAME_MEND) from None


def check_apart(
    name: ServerName, known: Iterable[ServerName], told: Callable[[str], bool] = lambda _name: True
) -> None:
    """Keep people from naming a server so that it is taken for another.

    Args:
        name: the new server's.
        known: those that there are.
        told: whether whoever names it may know of one of them.

    Raises:
        ChangeRefused: it is; it names only what may be told.
    """
    if alike := mistakable(name, known):
        other = next(filter(told, alike), "a name that is taken")
        raise ChangeRefused("server", f"{name} is mistaken for {other}", "Choose a name that reads differently.")


def check_why(text: str) -> str:
    """Somebody's reason, as one readable text.

    Raises:
        ChangeRefused: it is empty, too long, or hides something.
    """
    return _text("why", text, LONGEST_WHY)


def _text(name: str, value: Any, longest: int, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise ChangeRefused(name, "it is no text", "Write text.")
    text = unicodedata.normalize("NFC", value.strip())
    if not text and not empty:
        raise ChangeRefused(name, "it is empty", "Say why, in a sentence." if name == "why" else "Say something.")
    if len(text) > longest:
        raise ChangeRefused(name, f"it has {len(text)} characters", f"Use {longest} at most.")
    if hidden := hidden_in(text):
        raise ChangeRefused(name, f"it {hidden}", "Write one line of plain text.")
    return text


def _title(name: str, value: Any) -> str | None:
    if value is None:
        return None
    text = _text(name, value, LONGEST_TITLE)
    if mixed := mixed_in(text):
        raise ChangeRefused(name, f"it {mixed}", "Write it in one alphabet.")
    return text


def _description(name: str, value: Any) -> str:
    return _text(name, value, LONGEST_DESCRIPTION)


def _channel(name: str, value: Any) -> str:
    return _text(name, value, LONGEST_CHANNEL)


def _owner(name: str, value: Any) -> str:
    text = _text(name, value, NAME_LENGTH[1])
    if not re.fullmatch(NAME_PATTERN, text) or len(text) < NAME_LENGTH[0]:
        raise ChangeRefused(name, f"{text!r} is no group", "Use 2 to 32 of a-z, 0-9 and single '-'.")
    return text


def _sensitivity(name: str, value: Any) -> str:
    known = get_args(Sensitivity)
    if value not in known:
        raise ChangeRefused(name, "there is no such sensitivity", f"Known are {', '.join(known)}.")
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ChangeRefused(name, "it is neither true nor false", "Say true or false.")
    return value


def _links(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MOST_LINKS:
        raise ChangeRefused(name, f"it is no table of up to {MOST_LINKS} links", 'Write {"docs": "https://…"}.')
    return {_text(f"{name} name", key, 32): _link(f"{name}.{str(key)[:32]}", url) for key, url in value.items()}


def _link(name: str, value: Any) -> str:
    text = _text(name, value, LONGEST_LINK)
    if problem := link_problem(text):
        raise ChangeRefused(name, f"it {problem}", "Write one like https://wiki.example/page.")
    return text


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "title": _title,
    "description": _description,
    "owner": _owner,
    "support_channel": _channel,
    "links": _links,
    "sensitivity": _sensitivity,
    "gallery": _flag,
    "uses_models": _flag,
}
