"""What is looked for in the registry, and where a page of it begins."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from typing import NamedTuple

from pegboard.core.errors import PegboardError
from pegboard_hub.registry.folding import folded

LONGEST_TEXT = 200
MOST_WORDS = 8
MOST_ITEMS = 200


class QueryRefused(PegboardError):
    """A query that gets no answer.

    Attributes:
        field: of `Query`, which is to blame.
        message: what is wrong, a sentence.
        mend: what to do, a sentence.
    """

    def __init__(self, field: str, message: str, mend: str) -> None:
        self.field = field
        self.message = message
        self.mend = mend
        super().__init__(f"{field}: {message} {mend}")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. A filter that is empty lets everything through; of several values one must hold.

    Attributes:
        text: words, of which each must match; empty to browse in order of name.
        owner: teams.
        status: of the live status, as the catalogue's `states` has it.
        usable_from: a surface: only servers that the caller may reach from there, were they not stopped. It is then
            also the surface for which tools match.
        cursor: `Found.next` of the page before, with everything else as it was.
        limit: most items of a page, from 1 to `MOST_ITEMS`.
    """

    text: str = ""
    owner: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = ()
    lifecycle: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    usable_from: str | None = None
    cursor: str | None = None
    limit: int = 50


class Position(NamedTuple):
    """Where a page begins: after the server of that name among those of that rank; before all with an empty name."""

    rank: int = 0
    after: str = ""


def read_query(query: Query) -> tuple[list[str], Position]:
    """The folded words of a query, each once, and where its page begins."""
    if len(query.text) > LONGEST_TEXT:
        raise QueryRefused("text", f"It is longer than {LONGEST_TEXT} characters.", "Search for fewer words.")
    words = list(dict.fromkeys(filter(None, map(folded, query.text.split()))))
    if len(words) > MOST_WORDS:
        raise QueryRefused("text", f"It has more than {MOST_WORDS} words.", "Search for fewer words.")
    if not 1 <= query.limit <= MOST_ITEMS:
        raise QueryRefused(
            "limit", f"It is not a number from 1 to {MOST_ITEMS}.", "Ask for fewer, then for the next."
        )
    return words, Position() if query.cursor is None else _position(query.cursor, query)


def _digest(query: Query) -> str:
    """Of everything that must stay the same from one page to the next."""
    asked = replace(query, cursor=None, limit=1)
    values = [getattr(asked, name) for name in Query.__slots__]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def written(position: Position, query: Query) -> str:
    """The cursor of a page that begins there."""
    text = json.dumps([_digest(query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _position(cursor: str, query: Query) -> Position:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, rank, after = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        digest, rank, after = "", 0, ""
    if type(rank) is not int or not isinstance(after, str) or digest != _digest(query):
        raise QueryRefused("cursor", "It is not one of this query.", "Begin again without a cursor.")
    return Position(rank, after)
