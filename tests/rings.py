"""The hub's rings of keys, as a test that holds them to their promise reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pegboard.core.jose import Jwk


def keys_in(path: Path) -> list[dict[str, Any]]:
    """Every key of a ring, with its state."""
    return list(json.loads(path.read_text())["keys"])


def key_in(path: Path, state: str = "current") -> Jwk:
    """The one key of that state."""
    (found,) = [key for key in keys_in(path) if key["state"] == state]
    return dict(found["jwk"])
