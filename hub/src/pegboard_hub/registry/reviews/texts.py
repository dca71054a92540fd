"""What people write about reviews, held to rules: the access that they ask for, and longer texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from pegboard.core.names import NAME_LENGTH, NAME_PATTERN, SURFACES
from pegboard.core.spiffe import is_spiffe_id
from pegboard.core.text import hidden_in
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.model import Access
from pegboard_hub.registry.reviews.model import in_order

LONGEST_TEXT = 4000
MOST_VALUES = 100
"""Values of one kind of access that can be asked for."""

LONGEST_VALUE = 255


def check_access(access: Access) -> Access:
    """An access that somebody asks for, in order.

    Raises:
        ChangeRefused: it has a value that cannot be, or too many.
    """
    ordered = in_order(access)
    for field, values in ordered._asdict().items():
        if len(values) > MOST_VALUES:
            raise ChangeRefused(field, f"there are {len(values)}", f"Ask for {MOST_VALUES} at most.")
        for value in values:
            if fault := _VALUES[field](value):
                raise ChangeRefused(field, f"{value[:64]!r} {fault}", _MENDS[field])
    if "bot" in ordered.surfaces and not ordered.channels:
        raise ChangeRefused("channels", "surface bot is used in channels alone", "Name a channel, or leave bot out.")
    return ordered


def check_long(name: str, text: str, *, empty: bool = False) -> str:
    """A text of several lines, in which nothing hides.

    Raises:
        ChangeRefused: it is empty where it must not be, too long, or hides something.
    """
    text = unicodedata.normalize("NFC", "\n".join(line.rstrip() for line in text.strip().splitlines()))
    if not text and not empty:
        raise ChangeRefused(name, "it is empty", "Say something.")
    if len(text) > LONGEST_TEXT:
        raise ChangeRefused(name, f"it has {len(text)} characters", f"Use {LONGEST_TEXT} at most.")
    if hidden := hidden_in(text, lines=True):
        raise ChangeRefused(name, f"it {hidden}", "Write plain text.")
    return text


def _group(value: str) -> str:
    usable = re.fullmatch(NAME_PATTERN, value) and NAME_LENGTH[0] <= len(value) <= NAME_LENGTH[1]
    return "" if usable else "is no group"


def _surface(value: str) -> str:
    return "" if value in SURFACES else "is no surface"


def _plain(value: str) -> str:
    usable = 0 < len(value) <= LONGEST_VALUE and not hidden_in(value) and " " not in value
    return "" if usable else "is empty, too long or not plain"


def _service(value: str) -> str:
    return _plain(value) or ("" if is_spiffe_id(value) else "is no SPIFFE ID")


_VALUES: dict[str, Callable[[str], str]] = {
    "groups": _group,
    "surfaces": _surface,
    "channels": _plain,
    "services": _service,
}

_MENDS = {
    "groups": "Use 2 to 32 of a-z, 0-9 and single '-'.",
    "surfaces": f"Known are {', '.join(SURFACES)}.",
    "channels": "Name channels like #data-help.",
    "services": "Name services like spiffe://example.org/batch.",
}
