"""What the chain needs of the outside: a standing to decide with, and a place to write records.

`pegboard.remote` has the real ones (signed bundle, spool on disk); `pegboard.testing` the in-memory twins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pegboard.core.access import ServerAccess
from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.token import TokenVerifier


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server may decide with right now.

    Attributes:
        access: what was granted to this server.
        tokens: verifies tokens bound to this server.
        version: version of the bundle it came from; part of the key of every remembered decision.
    """

    access: ServerAccess
    tokens: TokenVerifier
    version: int


class Standings(Protocol):
    """Where the current standing comes from."""

    def current(self, now: float) -> Standing:
        """The standing at `now`, in seconds since the epoch.

        Raises:
            BundleRefused: there is none that may still be used.
        """
        ...


class Recorder(Protocol):
    """Where records are made durable."""

    def write(self, record: Intent | Outcome | Denial) -> None:
        """Make one record durable before returning.

        Raises:
            OSError: it cannot be written; the call must not go on.
        """
        ...

    def digest(self, document: bytes) -> str:
        """A keyed digest of a canonical document, in hex: tells equal from different and reveals nothing else."""
        ...
