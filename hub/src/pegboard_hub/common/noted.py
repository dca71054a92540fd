"""What the last start of a home noted, for whoever comes after it."""

from __future__ import annotations

import json
from typing import Any

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home


def hub_names(count: int) -> tuple[str, ...]:
    """What the hubs of an instance are called."""
    return "hub", *(f"hub-{number}" for number in range(2, count + 1))


def read_instance(home: Home) -> dict[str, Any]:
    """What the last start of this home noted (`Home.instance_file`); empty where there was none.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        found = json.loads(home.instance_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        mend = (
            "say with --grants which servers are granted, and with --sign-in how people sign in (its file, or demo); "
            "the next start writes it anew"
        )
        raise ConfigurationError(str(home.instance_file), ["cannot be read as JSON", mend]) from error
    return found if isinstance(found, dict) else {}


def noted(home: Home) -> dict[str, Any]:
    """What the last start noted; empty when there is none that can be read."""
    try:
        return read_instance(home)
    except ConfigurationError:
        return {}


def server_of(home: Home) -> str:
    """The PostgreSQL that a home's data is in, without who signs in there; empty where the data is in the home."""
    return str(noted(home).get("database") or "")
