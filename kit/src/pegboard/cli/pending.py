"""A call that waits for a person's yes: what a server's answer says of it, how to go on, and waiting for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options
from pegboard.cli.patiently import Patiently
from pegboard.cli.text import line, moment
from pegboard.core.approval import LONGEST_S, State

PENDING = "approval_pending"
"""Code of a refusal that is none: a person was asked, and the same call goes on once they have answered."""

ID_PATTERN = r"[A-Za-z0-9_-]{4,64}"
MOST_IDS = 100
LOOK_EVERY_S = 2.0
SAY_EVERY_S = 60.0
LONGEST_ASKS = 200

LONGEST_REPEAT = 200
"""Characters of a command that is written out again beside what a call waits for; a longer one buries it."""

Look = Callable[[str], Mapping[str, Any]]
"""Gives a request by its id, as the API tells it."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What a call waits for. Nothing of it is trusted further than to be looked up: it is a server's answer.

    Attributes:
        ids: of the requests, one for each action.
        url: the instance that the command talks to; links lead there and nowhere else.
        asks: who is to decide, in words; empty where nobody says.
        yours: whether that may be the caller.
        expires_at_ms: until when, in milliseconds since the epoch; None where nobody says.
    """

    ids: tuple[str, ...]
    url: str
    asks: str = ""
    yours: bool = False
    expires_at_ms: int | None = None

    @classmethod
    def read(cls, value: Any, url: str) -> Pending | None:
        """What a result's structured content says of the approval, or None where it has another shape."""
        if not isinstance(value, Mapping):
            return None
        given = value.get("ids", [value.get("id")])
        ids = tuple(each for each in given if is_id(each)) if isinstance(given, list) else ()
        if not 0 < len(ids) == len(given) <= MOST_IDS:
            return None
        return cls(
            ids,
            url,
            line(value.get("asks") or "")[:LONGEST_ASKS],
            value.get("yours") is True,
            _moment_of(value.get("expires_at_ms")),
        )

    @classmethod
    def of_page(cls, page: str, url: str) -> Pending | None:
        """What a link to an approval's page stands for; None where it leads elsewhere."""
        found = re.fullmatch(re.escape(f"{url}/approvals/") + f"({ID_PATTERN})", page)
        return cls((found[1],), url) if found else None

    @property
    def page(self) -> str:
        """Where people decide."""
        return page_of(self.url, self.ids[0])

    @property
    def until(self) -> str:
        """Until when, in UTC; empty where nobody says."""
        return moment(self.expires_at_ms)

    def as_json(self) -> dict[str, Any]:
        """For programs, of the document that says why the command did not reach its end."""
        return {
            "id": self.ids[0],
            "ids": list(self.ids),
            "page": self.page,
            "asks": self.asks,
            "yours": self.yours,
            "expires_at_ms": self.expires_at_ms,
        }

    def hints(self, options: Options, repeat: str) -> tuple[str, ...]:
        """Lines that say who is asked, where, until when, and how to go on."""
        again = f"wait for it: {repeat} --wait" if len(repeat) <= LONGEST_REPEAT else "wait for it with --wait"
        rows = (
            ("who", self.asks),
            ("page", self.page),
            ("until", f"{self.until} UTC" if self.until else ""),
            ("go on", f"run it again once they have answered, or {again}"),
            ("look", f"pegboard approvals show {self.ids[0]}{options.as_arguments()}"),
            ("take back", f"pegboard approvals withdraw {' '.join(self.ids)}{options.as_arguments()}"),
        )
        return tuple(f"  {name:<11}{value}" for name, value in rows if value)

    def left(self, options: Options, repeat: str) -> tuple[str, ...]:
        """Lines for somebody who stops waiting."""
        until = f" until {self.until} UTC" if self.until else ""
        return (
            f"The request stays, and can be answered{until}: {self.page}",
            f"Go on:        {repeat}",
            f"Take it back: pegboard approvals withdraw {' '.join(self.ids)}{options.as_arguments()}",
        )


def is_id(value: Any) -> bool:
    """Whether a value could be the id of a request."""
    return isinstance(value, str) and re.fullmatch(ID_PATTERN, value) is not None


def page_of(url: str, request: str) -> str:
    """A request's page. Its id has no character that would need quoting."""
    return f"{url}/approvals/{request}"


def _moment_of(value: Any) -> int | None:
    """A moment that a request can expire at, as it was sent; None of anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return min(value, int(time.time() + LONGEST_S + 60) * 1000)


def wait_for(pending: Pending, look: Look, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until the call can go on: everything is decided, and something is approved.

    What does not answer for a while is asked again: a hub that is started anew knows the request still.

    Raises:
        Failure: nothing of it will run: it was rejected, has expired or was withdrawn, or another call has run it.
    """
    began = said = time.monotonic()
    patiently = Patiently()
    while True:
        found = patiently.ask(lambda: [look(each) for each in pending.ids])
        if found and all(each.get("state") != State.REQUESTED for each in found):
            _go_on(pending, found)
            return
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            render.hint(f"Still waiting, for {(said - began) / 60:.0f} min.")
        sleep(LOOK_EVERY_S)


_ENDS: Mapping[str, tuple[str, str]] = {
    State.REJECTED: ("approval_rejected", "said no"),
    State.EXPIRED: ("approval_expired", "It expired before anybody answered, or before it ran; nothing ran."),
    State.WITHDRAWN: ("approval_withdrawn", "It was withdrawn; nothing ran."),
}
_ELSEWHERE = ("approval_claimed", "Another call has run it, or is running it now; this one ran nothing.")


def _go_on(pending: Pending, found: Sequence[Mapping[str, Any]]) -> None:
    """Say who said yes.

    Raises:
        Failure: nobody did, to anything.
    """
    yes = [each for each in found if each.get("state") == State.APPROVED]
    if yes:
        some = f" {len(yes)} of {len(found)}" if len(found) > 1 else ""
        render.hint(f"Approved{some} by {line(yes[0].get('decided_by') or 'them')}: going on.")
        return
    ended = next((each for each in found if each.get("state") == State.REJECTED), found[0])
    code, message = _ENDS.get(str(ended.get("state")), _ELSEWHERE)
    why = line(ended.get("why") or "")
    if code == "approval_rejected":
        message = f"{line(ended.get('decided_by') or 'They')} said no; nothing ran."
    failure = Failure.here(ExitStatus.DENIED, code, message, f"Look at it: {pending.page}")
    failure.error |= {"layer": "hub", "reason": why or code}
    failure.details = {"approval": pending.as_json()}
    raise failure
