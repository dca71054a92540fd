"""What the chain needs of the outside: a standing to decide with, a place to write records, and a meter.

`pegboard.remote` has the real ones (signed bundle, spool on disk, metrics); `pegboard.testing` the in-memory twins.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pegboard.core.access import ServerAccess
from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.revoked import NOTHING, Revoked
from pegboard.core.token import TokenVerifier


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server may decide with right now.

    Attributes:
        access: what was granted to this server.
        tokens: verifies tokens bound to this server.
        version: goes up when `access` changes; part of the key of every remembered decision.
        revoked: whose tokens are void, though they verify.
    """

    access: ServerAccess
    tokens: TokenVerifier
    version: int
    revoked: Revoked = NOTHING


class Standings(Protocol):
    """Where the current standing comes from."""

    def current(self, now: float) -> Standing:
        """The standing at `now`, in seconds since the epoch.

        Raises:
            BundleRefused: there is none that may still be used.
            StopsUnknown: there is, but a stop may have been missed since.
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


class Meter(Protocol):
    """What counts and times. It is told of everything, decides nothing and never raises."""

    def step(self, name: str) -> AbstractContextManager[object]:
        """Time the block as one of `core.metrics.STEPS`."""
        ...

    def under_way(self) -> AbstractContextManager[object]:
        """A call is under way while the block runs."""
        ...

    def ended(self, tool: str, surface: str, outcome: str, seconds: float) -> None:
        """An allowed call ended as one of `core.metrics.OUTCOMES`, `seconds` after its intent was on disk."""
        ...

    def refused(self, code: str, reason: str) -> None:
        """A request was refused."""
        ...

    def call_refused(self, tool: str, surface: str) -> None:
        """A call of a tool was refused; `tool` is what the caller named, which may be anything."""
        ...
