"""How a receiver knows that a message is Pegboard's: Standard Webhooks 1.0.0, its symmetric scheme (`v1`)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
FEWEST_BYTES: Final = 24
MOST_BYTES: Final = 64
"""Of a key ("Signature scheme")."""


def read_key(text: str) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is none; the message follows a name, and does not repeat it.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except binascii.Error:
        key = b""
    if not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(
            f"holds no key: it is {PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} random bytes in Base64; make one with "
            f'echo "{PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def headers(id_: str, at_s: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of one attempt ("Webhook headers"): a signature for each key, the newest first.

    Args:
        id_: of the message, the same at every attempt; without a full stop.
        at_s: of this attempt, in seconds since the epoch.
        body: as it is sent.
        keys: that it is signed with.
    """
    signed = f"{id_}.{at_s}.".encode() + body
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys]
    return {"webhook-id": id_, "webhook-timestamp": str(at_s), "webhook-signature": " ".join(signatures)}
