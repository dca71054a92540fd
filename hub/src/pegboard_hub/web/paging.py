"""Cursors of the API's lists: opaque, and good only for the list and the person that they were given for.

A cursor is where the next page begins, with a keyed digest over that place and over what it belongs to: the list, who
asks, and all that was asked. One that was changed, made up, or given for anything else is refused, and none of that
tells apart why. It holds nothing that its owner has not just read: the key of a page's last entry.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import Refused, refuse

MOST_ON_A_PAGE = 200
DEFAULT_ON_A_PAGE = 50
LONGEST_CURSOR = 2048

_PURPOSE = b"pegboard cursors 1"
_MAC_BYTES = 16

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


class Cursors:
    """Makes and reads cursors.

    Replicas with one key read each other's; a key that is new voids them all, and people begin again.
    """

    def __init__(self, key: bytes) -> None:
        """Prepare.

        Args:
            key: the instance's sealing key; a key for cursors alone is derived from it.
        """
        self._key = hmac.digest(key, _PURPOSE, "sha256")

    def write(self, place: Any, caller: Caller, of: str, asked: BaseModel | None = None) -> str:
        """The cursor of a page that begins after a place.

        Args:
            place: JSON that the list finds its place again with.
            caller: who may use it.
            of: the list, for example the path of its route.
            asked: all that was asked; its cursor and limit do not count.
        """
        told = json.dumps(place, separators=(",", ":")).encode()
        return urlsafe_b64encode(self._mac(told, caller, of, asked) + told).rstrip(b"=").decode()

    def read(self, cursor: str | None, caller: Caller, of: str, asked: BaseModel | None = None) -> Any:
        """The place that a cursor was made of; None where none is given.

        Raises:
            Refused: 400, it was made of something else, for somebody else, or not by us.
        """
        if cursor is None:
            return None
        try:
            whole = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except (Error, ValueError) as error:
            raise wrong_cursor() from error
        mac, told = whole[:_MAC_BYTES], whole[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(told, caller, of, asked)):
            raise wrong_cursor()
        # Base64 spells some bytes in more than one way (RFC 4648 §3.5); ours is the only one taken.
        if urlsafe_b64encode(whole).rstrip(b"=").decode() != cursor:
            raise wrong_cursor()
        return json.loads(told)

    def _mac(self, told: bytes, caller: Caller, of: str, asked: BaseModel | None) -> bytes:
        question = asked.model_dump(mode="json", exclude={"cursor", "limit"}) if asked is not None else {}
        who = [caller.sub_type, caller.sub, caller.surface, caller.channel]
        bound = json.dumps([of, who, question], sort_keys=True, separators=(",", ":")).encode()
        # The length keeps what a cursor says and what it is bound to apart.
        return hmac.digest(self._key, len(bound).to_bytes(8) + bound + told, hashlib.sha256)[:_MAC_BYTES]


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
        Refused: as `Cursors.read`.
    """
    after = cursors.read(asked.cursor, caller, of, asked)
    rest = [entry for entry in entries if after is None or key(entry) > after]
    shown = rest[: asked.limit]
    more = len(rest) > len(shown)
    return Page(shown, cursors.write(key(shown[-1]), caller, of, asked) if more else None)
