"""Keys that leaked: those that are never believed again, whatever else a file or a copy of one says.

The list is one file beside the rings, and the one thing that `pegboard keys leaked` must write: every ring leaves out
what it names, whenever and by whichever process it is read (docs/decisions/0038). Entries are only ever added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import locked, replace_file

Purpose = Literal["tokens", "bundles", "releases"]

Given = Literal["tokens", "bundles", "releases", "sealing", "authority"]
"""Which keys may be given up: those that sign, the one that seals what is kept of sign-ins, the development CA's."""

LONGEST_WHY = 300

NOBODY = "nobody@leaked-key.invalid"
"""Whom the tokens are for with which a key that was given up is tried: no login has such a person (RFC 2606)."""

TRYING = "pegboard-keys-leaked"
"""The client that they name, by which the ledger tells these tries from others'."""


class Leak(BaseModel):
    """One time that keys were given up.

    Attributes:
        at: when, in seconds since the epoch.
        by: who ordered it at the machine.
        why: in their words.
        since: from when on the keys may have been in other hands, in seconds since the epoch; None: nobody knows.
        kids: the public names of the keys, by what they were for; of one without a name, a digest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: float
    by: str
    why: str = Field(max_length=LONGEST_WHY)
    since: float | None = None
    kids: dict[Given, tuple[str, ...]]

    @property
    def purposes(self) -> tuple[str, ...]:
        """What the keys were for."""
        return tuple(self.kids)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    leaks: tuple[Leak, ...] = Field(default=())


def leaks_file(keys: Path) -> Path:
    """The list, in the folder of private keys."""
    return keys / "leaked.json"


def read_leaks(keys: Path) -> tuple[Leak, ...]:
    """Every leak that was told of, oldest first.

    Raises:
        ConfigurationError: the file is there and is no such list: nobody may take it for an empty one.
        OSError: it cannot be read.
    """
    path = leaks_file(keys)
    try:
        return _File.model_validate_json(path.read_bytes()).leaks
    except FileNotFoundError:
        return ()
    except (ValidationError, ValueError) as error:
        mend = (
            "put it back from a backup, or run `pegboard keys leaked` again and remove it first: every key then goes"
        )
        raise ConfigurationError(str(path), ["is no list of leaked keys", mend]) from error


def leaked_kids(keys: Path) -> frozenset[str]:
    """The names of all keys that leaked.

    Raises:
        ConfigurationError, OSError: as `read_leaks`.
    """
    return frozenset(kid for leak in read_leaks(keys) for kids in leak.kids.values() for kid in kids)


def add_leak(keys: Path, leak: Leak) -> None:
    """Put a leak on the list; it is on the disk before this returns.

    Raises:
        ConfigurationError, OSError: as `read_leaks`, or it cannot be written; the list is as it was.
    """
    with locked(keys):
        found = _File(leaks=(*read_leaks(keys), leak))
        replace_file(leaks_file(keys), found.model_dump_json(indent=1) + "\n", mode=0o600, sync=True)
