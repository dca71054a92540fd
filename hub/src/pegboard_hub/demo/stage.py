"""What the story's steps share: the wire, the home, and the words in which a step reports."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from pegboard_hub.common.home import Home
from pegboard_hub.demo.forgery import claims_of
from pegboard_hub.demo.wire import Reply, Wire

AMBIGUOUS_BODIES = {
    "a body with duplicate keys": (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
        '"params":{"name":"list_tables","arguments":{},"name":"get_revenue_metrics"}}'
    ),
    "a batch of two calls": (
        '[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","id":2,"method":"ping"}]'
    ),
}
"""Bodies that two parsers could read as two different calls."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing a step showed: what was tried, what was decided by which layer, and whether that is right."""

    what: str
    decided: str
    layer: str
    reason: str
    right: bool
    request_id: str = ""

    @property
    def line(self) -> str:
        """The report's line."""
        mark = "✓" if self.right else "✗ UNEXPECTED"
        by = f" by the {self.layer}" if self.layer else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{mark} {self.what} → {self.decided}{by}{why}"


@dataclass
class Stage:
    """The running instance, and what earlier steps left for later ones."""

    wire: Wire
    home: Home
    refused: list[tuple[str, Shown]] = field(default_factory=list)
    """(person, what was shown) of every refusal of a verified person; the ledger must have them all."""
    expired: str = ""
    """A token of ana's that has expired meanwhile."""

    def note(self, person: str, shown: Shown) -> Shown:
        """Remember a verified person's refusal for the ledger's step, and give it back."""
        self.refused.append((person, shown))
        return shown

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def public_key(self) -> dict[str, Any]:
        """The public half of the key that signs tokens, as the edge's bundle has it."""
        claims = claims_of(self.home.edge_bundle.read_text(encoding="utf-8"))
        key: dict[str, Any] = claims["jwks"]["keys"][0]
        return key


Step = Callable[[Stage], AsyncIterator[Shown]]


def allowed(what: str, reply: Reply, detail: str = "", right: bool = True) -> Shown:
    """What a call that should go through shows."""
    refusal = reply.refusal
    if refusal is not None:
        return Shown(what, "refused", str(refusal["layer"]), str(refusal["reason"]), False, reply.request_id)
    ok = right and reply.status == 200 and bool(reply.result) and not reply.result.get("isError", False)
    reason = detail or reply.text[:120]
    return Shown(what, "allowed" if ok else f"answered {reply.status}", "server", reason, ok, reply.request_id)


def refused(what: str, reply: Reply, layer: str, *reasons: str) -> Shown:
    """What a call that must not go through shows: refused by `layer`, for one of `reasons`."""
    refusal = reply.refusal
    if refusal is None:
        said = "allowed" if reply.result else f"answered {reply.status}"
        return Shown(what, said, "", reply.text[:120], False, reply.request_id)
    right = refusal["layer"] == layer and refusal["reason"] in reasons
    return Shown(what, "refused", str(refusal["layer"]), str(refusal["reason"]), right, reply.request_id)
