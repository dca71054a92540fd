"""What the pages of reviews and of access share: reading access from a form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from pegboard_hub.common.requests import refuse
from pegboard_hub.registry.model import Access


class AccessRow(NamedTuple):
    """One value of an access, beside what is granted now.

    Attributes:
        field: its name in a form.
        standing: `new`, `granted` or `gone`.
    """

    value: str
    field: str
    standing: str


KIND_WORDS = {"groups": "Groups", "surfaces": "Surfaces", "channels": "Channels", "services": "Services"}


def access_rows(granted: Access, asked: Access) -> dict[str, tuple[AccessRow, ...]]:
    """What is asked for and what is granted, by kind of access in words; kinds without either are left out."""
    rows = {}
    for name, words in KIND_WORDS.items():
        given, wanted = set(getattr(granted, name)), set(getattr(asked, name))
        rows[words] = tuple(
            AccessRow(value, f"{name}:{value}", _standing(value in given, value in wanted))
            for value in sorted(given | wanted)
        )
    return {words: found for words, found in rows.items() if found}


def ticked_access(form: Mapping[str, str]) -> Access:
    """The access whose boxes are ticked."""
    found: dict[str, list[str]] = {name: [] for name in Access._fields}
    for field in form:
        name, colon, value = field.partition(":")
        if colon and name in found:
            found[name].append(value)
    return Access(**{name: tuple(values) for name, values in found.items()})


def written_access(form: Mapping[str, str]) -> Access:
    """The access that fields name, with values between spaces or commas; surfaces are boxes."""
    ticked = ticked_access(form)
    return Access(
        groups=_values(form.get("groups", "")),
        surfaces=ticked.surfaces,
        channels=_values(form.get("channels", "")),
        services=_values(form.get("services", "")),
    )


def item_field(item: str) -> str:
    """The field of an item of a checklist. Of its words: who ticked others has not ticked these."""
    return f"item:{hashlib.sha256(item.encode()).hexdigest()[:16]}"


def version_of(form: Mapping[str, str]) -> int:
    """The version that the form was made for.

    Raises:
        Refused: it says none.
    """
    text = form.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise refuse(400, "invalid_request", "The form does not say what it was made for.", "Open the page again.")
    return int(text)


def _standing(given: bool, wanted: bool) -> str:
    if wanted:
        return "granted" if given else "new"
    return "gone"


def _values(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
