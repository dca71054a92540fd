"""How a request or a call is refused: it is written down first, and then said."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from pegboard.call.measure import CallIds, Measure
from pegboard.call.ports import Meter
from pegboard.core.access import ServerAccess
from pegboard.core.refusal import Refusal

logger = logging.getLogger(__name__)

LONGEST_NAME = 64
"""Characters of a tool's name that are logged; no tool has more (`core.names.TOOL_PATTERN`)."""


class Refused(Exception):
    """A step said no. `status` and `message_id` are the HTTP status and JSON-RPC id where it is an HTTP answer."""

    def __init__(self, refusal: Refusal, status: int, message_id: str | int | None = None) -> None:
        self.refusal = refusal
        self.status = status
        self.message_id = message_id
        super().__init__(refusal.reason)


class Refusing:
    """Writes refusals down, and gives back the exceptions that carry them."""

    def __init__(self, measure: Measure, meter: Meter) -> None:
        self._measure = measure
        self._meter = meter

    def unable(self, refusal: Refusal) -> Refused:
        """The exception for what can be neither decided nor recorded: the meter alone takes note."""
        self._meter.refused(refusal.code, refusal.reason)
        return Refused(refusal, 503)

    def deny(self, refusal: Refusal, status: int, ids: CallIds, **facts: Any) -> Refused:
        """Record a denial and give back the exception that carries it."""
        ids = CallIds(ids.call_id or uuid4().hex, ids.request_id, ids.trace_id)
        caller = facts.pop("caller", None)
        tool = facts.get("tool", "")[:LONGEST_NAME]  # a caller may name anything, at any length
        logger.info(
            "refused %s: %s, for %s%s%s",
            ids.told,
            refusal.reason,
            f"{caller.sub} from {caller.surface}" if caller else "nobody verified",
            f", of {tool!r}" if tool else "",
            f": {facts['detail']}" if facts.get("detail") else "",
        )
        try:
            self._measure.deny(refusal, ids, caller, **facts)
        except OSError:
            logger.exception("a denial could not be recorded; it is refused all the same")
        return Refused(refusal.for_request(ids.request_id), status)


def no_standing() -> Refusal:
    """Of a server that has no bundle which it may decide with."""
    return Refusal(
        code="unavailable",
        message="This server has no current grants to decide with, so it refuses everything.",
        layer="server",
        reason="bundle_unusable",
        what_to_do="Ask the platform team to look at the hub; it renews grants by itself once it is back.",
    )


def unrecorded(access: ServerAccess, ids: CallIds) -> Refusal:
    """Of a call whose intent or outcome the disk does not take."""
    return Refusal(
        code="unavailable",
        message="The call cannot be recorded right now. It may or may not have run.",
        layer="server",
        reason="ledger_unavailable",
        what_to_do=f"Check before you repeat it. {access.ask}",
        request_id=ids.request_id,
    )
