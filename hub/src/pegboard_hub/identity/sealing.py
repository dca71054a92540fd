"""Sealing what nobody may read or change: AES-256-GCM under a key of the instance (NIST SP 800-38D).

Each purpose has a sealer of its own, and what one sealed no other opens. Without the key, as after a restore that
left keys out, nothing that was sealed can be opened, and people sign in again.
"""

from __future__ import annotations

import binascii
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home, locked, replace_file

KEY_BYTES = 32
NONCE_BYTES = 12

_FORMAT = "1."
"""Before everything that is sealed now; another key or cipher takes another."""


class Sealer:
    """Seals text for one purpose."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._cipher = AESGCM(key)
        self._purpose = purpose.encode()

    def seal(self, text: str) -> str:
        """`text`, sealed: ASCII that may stand in a cookie or a row."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), self._purpose)
        return _FORMAT + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def unseal(self, sealed: str) -> str:
        """What was sealed.

        Raises:
            ValueError: it was not sealed with this key for this purpose, or was changed since.
        """
        try:
            text = sealed.removeprefix(_FORMAT)
            found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return self._cipher.decrypt(found[:NONCE_BYTES], found[NONCE_BYTES:], self._purpose).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise ValueError("not sealed with this key for this purpose") from error


def open_sealing_key(home: Home) -> bytes:
    """The instance's key, made at the first start.

    Raises:
        ConfigurationError: the file cannot be read or made, is open to others, or holds no key.
    """
    path = home.sealing_key
    try:
        with locked(home.keys):  # several hubs may start at once, and all must have the same
            if not path.exists():
                replace_file(path, secrets.token_hex(KEY_BYTES) + "\n", mode=0o600, sync=True)
        return read_sealing_key(path)
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read or made: {error.strerror}"]) from error


def read_sealing_key(path: Path) -> bytes:
    """The key in a file. Nothing is made.

    Raises:
        ConfigurationError: it is open to others, or holds no key.
        OSError: it cannot be read.
    """
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(str(path), [f"others may read this key; run: chmod 600 {path}"])
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        mend = "restore it from a backup, or remove it: then everybody signs in again"
        raise ConfigurationError(str(path), ["holds no key", mend])
    return key
