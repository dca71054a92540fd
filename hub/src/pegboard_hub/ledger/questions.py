"""What the ledger can be asked, by whom, and the shape of an answer."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, literal, or_

from pegboard_hub.ledger.model import CallLayer, Decision, calls

Condition = ColumnElement[bool]
Row = dict[str, Any]


class Place(NamedTuple):
    """A call's place in the order of the ledger: newest first, and total."""

    at_ms: int
    id: str
    server: str
    kind: str

    def as_text(self) -> str:
        """The place as a cursor that a client hands back."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Place:
        """The place of a cursor.

        Raises:
            ValueError: no page of ours ended there.
        """
        try:
            found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            at_ms, *names = found
            if type(at_ms) is not int or not 0 <= at_ms < 2**63 or not all(isinstance(name, str) for name in names):
                raise ValueError(text)
            return cls(at_ms, *names)
        except (ValueError, TypeError, binascii.Error, RecursionError) as error:
            raise ValueError("the cursor is not one that a page gave") from error


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks, and whose calls they may read beside their own.

    Attributes:
        sub: the person or service.
        owned: servers whose every call may be read, with the reasons of refusals.
        everything: every call may be read, as security may.
    """

    sub: str
    sub_type: str
    owned: frozenset[str] = frozenset()
    everything: bool = False

    def knows(self, server: str) -> bool:
        """Whether the reasons of refusals on this server are told."""
        return self.everything or server in self.owned

    @property
    def own(self) -> Condition:
        """The reader's own calls."""
        return (calls.c.sub == self.sub) & (calls.c.sub_type == self.sub_type)

    @property
    def visible(self) -> Condition:
        """The calls that may be read."""
        if self.everything:
            return literal(True)
        return or_(self.own, calls.c.server.in_(sorted(self.owned))) if self.owned else self.own


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; None does not matter. Times are milliseconds since the epoch.

    Attributes:
        act: the registered surface that acted for the person.
        status: an outcome's; `denied`; `running` or `unknown` of calls without an outcome.
        since_ms: calls that began then or later.
        until_ms: calls that began before.
    """

    person: str | None = None
    server: str | None = None
    tool: str | None = None
    decision: Decision | None = None
    layer: CallLayer | None = None
    status: str | None = None
    code: str | None = None
    surface: str | None = None
    act: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    request_id: str | None = None
    trace_id: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What tells a call that is still running from one that never will end.

    Attributes:
        young_ms: calls that began before are not running any more.
        live_since_ms: when each live server's process came up; what began before that ended with the one before it.
    """

    young_ms: int = 0
    live_since_ms: Mapping[str, int] = field(default_factory=dict)

    def running(self, server: str, at_ms: int) -> bool:
        """Whether a call without an outcome may still be running."""
        since = self.live_since_ms.get(server)
        return since is not None and at_ms >= max(since, self.young_ms)


@dataclass(frozen=True, slots=True)
class Found:
    """How much a search finds.

    Attributes:
        count: calls that fit.
        denied: of those, refusals.
        unfinished: of those, allowed ones without an outcome.
        back_to_ms: None when every call was looked at; else how far back it was looked, and there may be more.
    """

    count: int
    denied: int
    unfinished: int
    back_to_ms: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of `calls`, newest first.

    Attributes:
        after: where to go on; None when there is nothing further back.
    """

    rows: list[Row]
    after: Place | None
