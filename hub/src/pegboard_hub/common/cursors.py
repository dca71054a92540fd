"""Cursors of lists: opaque to clients, and nobody else can make one.

A cursor is some content, and a keyed digest over it and over what it was given for: the list, and wherever that
matters who asks and what. It is signed and not sealed, so what it holds must be no secret to whom it is given. It
needs no escaping in an address, and equal contents of one purpose have equal cursors, or no page with a further one
could ever be told unchanged.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

LONGEST_CURSOR = 2048
"""Characters of a cursor that is looked at; ours have fewer."""

_PURPOSE = b"pegboard cursors 2"
_MAC_BYTES = 16


class CursorRefused(Exception):
    """It was made for something else, or not by us, or was changed; which of them is not told."""


class Cursors:
    """Makes and reads them.

    Replicas with one key read each other's; a key that is new voids them all, and clients begin again.
    """

    def __init__(self, key: bytes) -> None:
        """Prepare.

        Args:
            key: the instance's sealing key; a key for cursors alone is derived from it.
        """
        self._key = hmac.digest(key, _PURPOSE, hashlib.sha256)

    def write(self, content: Any, given_for: Any) -> str:
        """A cursor.

        Args:
            content: JSON that a list finds its place again with.
            given_for: JSON of what the cursor is good for, and for nothing else.
        """
        told = _json(content)
        return _text(self._mac(told, given_for) + told)

    def read(self, cursor: str, given_for: Any) -> Any:
        """What a cursor holds.

        Raises:
            CursorRefused: no instance with this key made it as it is, and for this.
        """
        if len(cursor) > LONGEST_CURSOR:
            raise CursorRefused
        try:
            whole = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError as error:
            raise CursorRefused from error
        mac, told = whole[:_MAC_BYTES], whole[_MAC_BYTES:]
        # Base64 spells some bytes in more than one way (RFC 4648 §3.5); ours is the only one taken.
        if not hmac.compare_digest(mac, self._mac(told, given_for)) or _text(whole) != cursor:
            raise CursorRefused
        return json.loads(told)

    def _mac(self, told: bytes, given_for: Any) -> bytes:
        bound = _json(given_for)
        # The length keeps what a cursor says and what it is given for apart.
        return hmac.digest(self._key, len(bound).to_bytes(8) + bound + told, hashlib.sha256)[:_MAC_BYTES]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _text(whole: bytes) -> str:
    return urlsafe_b64encode(whole).rstrip(b"=").decode()
