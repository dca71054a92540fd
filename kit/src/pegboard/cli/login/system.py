"""The system's keyring, through the package `keyring`, which is imported here alone and may be missing."""

from __future__ import annotations

from typing import Any

from pegboard.cli.text import line

SERVICE = "pegboard"
"""What keyrings show as the program whose secret it is; the account is the instance's URL."""


class KeyringFailed(Exception):
    """The keyring is there and does not do what it should; the message says what it said."""


def find_keyring() -> SystemKeyring | None:
    """The keyring, if there is one that protects what it is given.

    The package's own scale says so: what only stands in for one, or keeps plain files, is below 1.
    """
    try:
        import keyring

        backend = keyring.get_keyring()
        return SystemKeyring(backend) if backend.priority >= 1 else None
    except Exception:  # a broken backend of somebody's, or none installed: there is a file to fall back on
        return None


class SystemKeyring:
    """One backend of the package `keyring`. They raise what they like, so every error counts as a failure."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.name = f"the keyring ({line(backend.name)})"

    def read(self, url: str) -> str | None:
        """What is kept for an instance."""
        try:
            found = self._backend.get_password(SERVICE, url)
        except Exception as error:
            raise _failed(error) from error
        return found if isinstance(found, str) else None

    def write(self, url: str, secret: str) -> None:
        """Keep it in place of what was there."""
        try:
            self._backend.set_password(SERVICE, url, secret)
        except Exception as error:
            raise _failed(error) from error

    def forget(self, url: str) -> None:
        """Keep nothing."""
        try:
            self._backend.delete_password(SERVICE, url)
        except Exception as error:
            raise _failed(error) from error


def _failed(error: Exception) -> KeyringFailed:
    # The words of a backend could quote what it was given: its kind of error says enough.
    return KeyringFailed(type(error).__name__)
