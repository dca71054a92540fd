"""What the chain needs of the outside: a standing to decide with, a place to write records, whoever knows what people
said, the call itself, and a meter.

`pegboard.remote` has the real ones (signed bundle, spool on disk, metrics); `pegboard.testing` the in-memory twins.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mcp_types import CallToolResult, InputRequiredResult

from pegboard.core.access import ServerAccess
from pegboard.core.approval import Answer, Ask
from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.revoked import NOTHING, Revoked
from pegboard.core.token import TokenVerifier

ToolResult = CallToolResult | InputRequiredResult


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server may decide with right now.

    Attributes:
        access: what was granted to this server.
        tokens: verifies tokens bound to this server.
        version: goes up when `access` changes; part of the key of every remembered decision.
        revoked: whose tokens are void, though they verify.
        notice: what callers are told with every result; empty for nothing.
    """

    access: ServerAccess
    tokens: TokenVerifier
    version: int
    revoked: Revoked = NOTHING
    notice: str = ""


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


class Approvals(Protocol):
    """Where it is known whether people said yes."""

    async def ask(self, ask: Ask) -> Answer:
        """Find or make the requests of a call, and claim those that were approved for it.

        Asking again with the same `call_id` claims nothing twice and tells the same.

        Raises:
            ApprovalsAway: nobody can say. The call must not run; what was approved may be claimed for it.
            ApprovalImpossible: nobody can approve such a call.
        """
        ...


class Invocation(Protocol):
    """One call of a tool, as whoever speaks the protocol has it.

    Attributes:
        context: what the tool's code gets as its `Context`.
    """

    @property
    def context(self) -> object: ...  # noqa: D102 - above

    def fit(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the tool's function would get them, by name.

        Raises:
            ToolError: they do not fit, as the call itself would say.
        """
        ...

    def check_shown(self, arguments: dict[str, Any]) -> None:
        """Refuse arguments that the tool would get otherwise than a person is shown them.

        Raises:
            ToolError: it takes no argument of that name, or would get another value.
        """
        ...

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Run the tool.

        Raises:
            ToolError: it failed.
            MCPError: it answers with a protocol error.
        """
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
