"""Random secrets that we give out, and the digests that we keep of them."""

from __future__ import annotations

import secrets
import uuid
from hashlib import sha256


def new_secret() -> str:
    """A secret of 256 random bits, safe in URLs, cookies and forms."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of a secret: its SHA-256 in hexadecimal digits. With 256 random bits a salt would add nothing."""
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def new_id() -> str:
    """An id that need not be kept secret: 32 hexadecimal digits."""
    return uuid.uuid4().hex
