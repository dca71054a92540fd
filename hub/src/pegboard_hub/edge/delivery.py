"""Bringing the edge's own refusals to the ledger."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from pegboard_hub.edge.accesslog import AccessLog, Line, Place
from pegboard_hub.edge.refusals import CASES
from pegboard_hub.edge.tls import IN_THE_CLEAR

logger = logging.getLogger(__name__)

MOST_TEXT = 128
"""Longest text of a caller's that is passed on."""

MOST_A_SECOND = 20
"""Refusals of one reason and one person, or of nobody in particular, that are told of one second. A flood must fill
neither the ledger nor the way to it; how many there were is in the metrics."""

NOT_REFUSED = frozenset({"server_gone", "server_timeout", "server_too_slow", "hub_unreachable"})
"""Answers of Envoy's own that refuse nothing: a call may have run, and the server's records tell."""

_CODES = {each.reason: each.code for each in (*(case.refusal for case in CASES), IN_THE_CLEAR)}
_OTHER_CODE = "bad_request"


class Thinning:
    """Lets through so many refusals a second of each kind.

    Attributes:
        thinned: how many were not let through since the start.
    """

    def __init__(self, most: int = MOST_A_SECOND) -> None:
        self.thinned = 0
        self._most = most
        self._second = 0
        self._told: Counter[tuple[str, str, str]] = Counter()

    def lets(self, refusal: dict[str, Any]) -> bool:
        """Whether to tell of it. Lines of one second stand together in the log."""
        if (second := refusal["at_ms"] // 1000) != self._second:
            self._second = second
            self._told.clear()
        who = refusal["who"] or {}
        kind = (refusal["reason"], who.get("sub_type") or "", who.get("sub") or "")
        self._told[kind] += 1
        if self._told[kind] <= self._most:
            return True
        self.thinned += 1
        return False


class RefusalDelivery:
    """Delivers until the hub has everything. The place in the log moves on only then, so nothing is lost between."""

    def __init__(self, log: AccessLog, hub_socket: Path, credential: Path, door: str) -> None:
        self._log = log
        self._thinning = Thinning()
        self._pending: tuple[Place, list[dict[str, Any]]] | None = None
        self._credential = credential
        self._door = f"{door}/refusals"
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(hub_socket)), base_url="http://hub", timeout=10
        )

    async def deliver(self) -> bool:
        """Deliver the next part of the log. False when there was nothing new.

        Raises:
            httpx2.HTTPError: the hub cannot be reached, or is not in a state to take it.
            OSError: the log or the credential cannot be read.
        """
        if self._pending is None:  # what is tried again is not thinned again
            lines, place = self._log.read()
            found = (refusal for line in lines if (refusal := refusal_of(line)) is not None)
            self._pending = place, [refusal for refusal in found if self._thinning.lets(refusal)]
            if not lines:
                self._pending = None
                self._log.done(place)
                return False
        place, refusals = self._pending
        if refusals:
            await self._send(refusals)
        self._log.done(place)
        self._pending = None
        return True

    @property
    def thinned(self) -> int:
        """Refusals that the ledger was not told of since the start."""
        return self._thinning.thinned

    async def close(self) -> None:
        """Close the connection to the hub."""
        await self._client.aclose()

    async def _send(self, refusals: list[dict[str, Any]]) -> None:
        response = await self._post(refusals)
        if response.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:
            if len(refusals) == 1:
                # Repeating cannot mend it, and it must not keep the others waiting.
                logger.error("the hub does not understand refusal %s", refusals[0]["request_id"])
                return
            for refusal in refusals:
                await self._send([refusal])
            return
        response.raise_for_status()

    async def _post(self, refusals: list[dict[str, Any]]) -> httpx2.Response:
        token = self._credential.read_text(encoding="utf-8").strip()
        headers = {"authorization": f"Bearer {token}"}
        return await self._client.post(self._door, json={"refusals": refusals}, headers=headers)


def refusal_of(line: Line) -> dict[str, Any] | None:
    """The refusal a line tells of; None when Envoy refused nothing there.

    `reason` is read from a response header, so it counts only where the response is Envoy's own.
    """
    reason = line.get("reason")
    if not reason or line.get("details") == "via_upstream" or reason in NOT_REFUSED:
        return None
    return {
        # What Envoy could not read has no id of its own; a connection ends with it.
        "request_id": _text(line, "request_id") or f"connection-{line.get('connection')}-{line.get('at')}",
        "at_ms": _milliseconds(line.get("at")),
        "server": _text(line, "server") or "",
        "status": int(line.get("status") or 0),
        "code": _CODES.get(reason, _OTHER_CODE),
        "reason": str(reason),
        "who": _who(line),
        "tool": _text(line, "tool"),
        "method": _text(line, "mcp_method"),
        "traceparent": _text(line, "traceparent") or "",
    }


def _who(line: Line) -> dict[str, str | None] | None:
    """The verified caller. Envoy knows the claims only of a token that verified."""
    fields = {name: _text(line, name) for name in ("sub", "sub_type", "surface", "client_id")}
    if not all(fields.values()) or fields["sub_type"] not in ("person", "service"):
        return None
    return {**fields, "channel": _text(line, "channel"), "act": _text(line, "act")}


def _text(line: Line, name: str) -> str | None:
    value = line.get(name)
    return value[:MOST_TEXT] if isinstance(value, str) and value else None


def _milliseconds(at: object) -> int:
    try:
        return int(datetime.fromisoformat(str(at)).astimezone(UTC).timestamp() * 1000)
    except ValueError:
        return 0
