"""Pages of the API's lists. A cursor is good only for the list, the person and the question that it was given for.

It holds where the next page begins, and so nothing that its owner has not just read: the key of a page's last entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.caller import Caller
from pegboard_hub.common.cursors import LONGEST_CURSOR, CursorRefused, Cursors
from pegboard_hub.common.requests import Refused, refuse

MOST_ON_A_PAGE = 200
DEFAULT_ON_A_PAGE = 50

T = TypeVar("T")


class AskedPage(BaseModel):
    """Which part of a list. A list's own query extends it; a name that is not in it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(
        default=DEFAULT_ON_A_PAGE, ge=1, le=MOST_ON_A_PAGE, description="most entries of this page", examples=[50]
    )
    cursor: str | None = Field(
        default=None,
        max_length=LONGEST_CURSOR,
        description="`next` of the page before, asked for by the same person with everything else as it was",
    )


class Page(NamedTuple):
    """One page of a list: its entries, and the cursor of the next page; None after the last."""

    items: Sequence[Any]
    next: str | None


def cursor_of(cursors: Cursors, place: Any, caller: Caller, of: str, asked: BaseModel | None = None) -> str:
    """The cursor of a page that begins after a place.

    Args:
        cursors: the instance's.
        place: JSON that the list finds its place again with.
        caller: who may use it.
        of: the list, for example the path of its route.
        asked: all that was asked; its cursor and limit do not count.
    """
    return cursors.write(place, _given_for(caller, of, asked))


def place_of(cursors: Cursors, cursor: str | None, caller: Caller, of: str, asked: BaseModel | None = None) -> Any:
    """The place that a cursor was made of; None where none is given.

    Raises:
        Refused: 400, it was made of something else, for somebody else, or not by us.
    """
    if cursor is None:
        return None
    try:
        return cursors.read(cursor, _given_for(caller, of, asked))
    except CursorRefused as error:
        raise wrong_cursor() from error


def _given_for(caller: Caller, of: str, asked: BaseModel | None) -> list[Any]:
    question = asked.model_dump(mode="json", exclude={"cursor", "limit"}) if asked is not None else {}
    return [of, [caller.sub_type, caller.sub, caller.surface, caller.channel], question]


def wrong_cursor() -> Refused:
    """The refusal of a cursor that was not given for this list, this person and this question."""
    message = "cursor: It is not one that you were given for this list and this question."
    return refuse(400, "invalid_request", message, "Begin again without a cursor.", "invalid_cursor")


def page_of(
    entries: Sequence[T],
    key: Callable[[T], str],
    cursors: Cursors,
    caller: Caller,
    of: str,
    asked: AskedPage,
) -> Page:
    """A page of entries that are all at hand, in order of `key`, which tells each apart.

    Raises:
        Refused: as `place_of`.
    """
    after = place_of(cursors, asked.cursor, caller, of, asked)
    rest = [entry for entry in entries if after is None or key(entry) > after]
    shown = rest[: asked.limit]
    more = len(rest) > len(shown)
    return Page(shown, cursor_of(cursors, key(shown[-1]), caller, of, asked) if more else None)
