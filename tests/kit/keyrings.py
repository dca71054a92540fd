"""Keyrings for `PYTHON_KEYRING_BACKEND`: what the package `keyring` finds in place of the system's."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class Working(KeyringBackend):
    """One that keeps what it is given: in the file that `TEST_KEYRING` names, so that processes share it."""

    priority = 5

    def get_password(self, service: str, username: str) -> str | None:
        """What is kept."""
        return self._all().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        self._path().write_text(json.dumps({**self._all(), f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        """Keep it no more."""
        kept = self._all()
        if kept.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("there is none")
        self._path().write_text(json.dumps(kept))

    def _all(self) -> dict[str, str]:
        path = self._path()
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _path(self) -> Path:
        return Path(os.environ["TEST_KEYRING"])


class Locked(Working):
    """One that is locked, and quotes what it was to keep in its error."""

    def get_password(self, service: str, username: str) -> str | None:
        """Fail."""
        raise KeyringLocked(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        """Fail."""
        raise KeyringLocked(f"{service} {username} {password}")


class Forgetful(Working):
    """One that takes everything and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Nothing is kept."""


class Broken(Working):
    """One whose parts are missing."""

    def __init__(self) -> None:
        raise ModuleNotFoundError("no D-Bus")


class Plain(Working):
    """One that keeps plain text: no better than a file of ours."""

    priority = 0.5
