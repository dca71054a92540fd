"""How a command ends: the exit statuses, and the one error every command fails with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, get_args

from pegboard.core.refusal import Layer

REFUSAL_FIELDS = ("code", "message", "layer", "reason", "what_to_do", "request_id")
"""The keys of a refusal as every layer writes it (`pegboard.core.refusal.Refusal`)."""


class ExitStatus(IntEnum):
    """What a script can tell from the exit status alone. The words are those of the reference page."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        """A status with the sentence that explains it."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DONE = 0, "done"
    FAILED = 1, "the tool or the job failed"
    USAGE = 2, "wrong usage: the command line or a setting is wrong"
    DENIED = 3, "denied: a layer refused; the message says which, why, and whom to ask"
    WAITING = 4, "waiting for a person to approve"
    UNREACHABLE = 5, "not signed in, or Pegboard does not answer"
    INTERRUPTED = 130, "interrupted from the keyboard"


class Failure(Exception):
    """A command did not reach its end.

    Attributes:
        status: what the process exits with.
        error: what happened, in the shape of a refusal (`REFUSAL_FIELDS`), whoever found out.
        hints: lines for a person that say what to do next; never part of the JSON.
        details: more members of the JSON document, beside `error`.
        headline: what people are told in place of the message; empty where that is good for them, too.
    """

    def __init__(self, status: ExitStatus, error: Mapping[str, str], hints: tuple[str, ...] = ()) -> None:
        self.status = status
        self.error = dict(error)
        self.hints = hints
        self.details: dict[str, Any] = {}
        self.headline = ""
        super().__init__(error["message"])

    @classmethod
    def here(cls, status: ExitStatus, code: str, message: str, what_to_do: str = "") -> Failure:
        """A failure that the command itself found, before or without an answer from anybody."""
        values = (code, message, "command", code, what_to_do, "")
        return cls(status, dict(zip(REFUSAL_FIELDS, values, strict=True)))

    @classmethod
    def usage(cls, message: str, what_to_do: str = "") -> Failure:
        """The command line, or a setting, is wrong."""
        return cls.here(ExitStatus.USAGE, "wrong_usage", message, what_to_do)

    @property
    def refused(self) -> bool:
        """Whether edge, server or hub said no, rather than the command itself."""
        return self.error["layer"] != "command"


def read_refusal(value: Any) -> dict[str, str] | None:
    """`value` as a refusal, or None when it has another shape. What a server sends is not trusted to be one."""
    if not isinstance(value, Mapping) or value.get("layer") not in get_args(Layer):
        return None
    if not all(isinstance(value.get(key), str) for key in ("code", "message")):
        return None
    return {key: text if isinstance(text := value.get(key), str) else "" for key in REFUSAL_FIELDS}


_STATUS_OF = {
    "server_unavailable": ExitStatus.UNREACHABLE,
    "wrong_host": ExitStatus.UNREACHABLE,
    "approvals_unavailable": ExitStatus.UNREACHABLE,
    "approval_pending": ExitStatus.WAITING,
}
"""Codes of refusals that are no denial."""


def refused(refusal: Mapping[str, str], http_status: int | None = None) -> Failure:
    """The failure for a refusal. Without a valid token one is not signed in; a server that is down is unreachable,
    and so is an instance under a name that is not its own. A call that a person must say yes to waits."""
    gone = http_status is not None and http_status >= 500
    away = http_status == 401 or gone
    status = ExitStatus.UNREACHABLE if away else _STATUS_OF.get(refusal["code"], ExitStatus.DENIED)
    return Failure(status, refusal)
