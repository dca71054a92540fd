"""Cursors of the official API: opaque to clients, and nobody else can make one.

VS Code puts a cursor into the address as it is, and leaves out its search on the pages that follow: so a cursor is
made of characters that need no escaping, and has the whole question in it. Equal places of equal questions have equal
cursors, or no page with a further one could ever be told unchanged.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

LONGEST_CURSOR = 2048
"""Characters of a cursor that is looked at; ours have fewer."""

_PURPOSE = b"pegboard official registry cursor 1"
_MAC_BYTES = 16


class CursorRefused(Exception):
    """It is not one of ours, or was changed."""


class Cursors:
    """Makes and reads them."""

    def __init__(self, key: bytes) -> None:
        """Derive a key of their own from the instance's."""
        self._key = hmac.digest(key, _PURPOSE, hashlib.sha256)

    def write(self, content: dict[str, Any]) -> str:
        """A cursor that holds `content`."""
        text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        return urlsafe_b64encode(self._mac(text) + text).rstrip(b"=").decode()

    def read(self, cursor: str) -> dict[str, Any]:
        """What a cursor holds.

        Raises:
            CursorRefused: this instance did not make it as it is.
        """
        if len(cursor) > LONGEST_CURSOR or not cursor.isascii():
            raise CursorRefused
        try:
            found = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError) as error:
            raise CursorRefused from error
        mac, text = found[:_MAC_BYTES], found[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(text)):
            raise CursorRefused
        content: dict[str, Any] = json.loads(text)
        if self.write(content) != cursor:  # base64 can be written in more ways than one
            raise CursorRefused
        return content

    def _mac(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, hashlib.sha256)[:_MAC_BYTES]
