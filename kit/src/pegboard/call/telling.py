"""What callers are told of approvals: one table of texts, for models and the people they work for.

What comes of arguments and of people's reasons is quoted and cut; the rest is ours alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pegboard.core.access import ServerAccess
from pegboard.core.approval import Answer, Told
from pegboard.core.approval import State as Stage
from pegboard.core.refusal import Refusal
from pegboard.gates import shown


class _Text(NamedTuple):
    """A code's message and mend; `{tool}`, `{who}`, `{page}`, `{until}`, `{reason}` and `{ask}` are filled in.

    Attributes:
        wrote: what leads over to a person's reason, where they gave one.
    """

    message: str
    mend: str
    wrote: str = ""


_AGAIN: Final = "repeat the same call with the same arguments"

TEXTS: Final[dict[str, _Text]] = {
    "approval_pending": _Text(
        "{tool} did not run yet: {who} must say yes to exactly this call first, on the page {page} (give the person "
        "you work for this link). Once it is decided, " + _AGAIN + ": that continues this request, and any "
        "difference makes another. It waits until {until}.",
        "Have it decided on the page {page}, or wait until it is; then " + _AGAIN + ".",
    ),
    "approval_rejected": _Text(
        "{tool} did not run: {who} said no to this call{reason}. Tell the person you work for, and do not ask for "
        "the same in another form. The same call is answered like this until {until}.",
        "Talk to whoever decided. The page {page} has all of it.",
        " and wrote ",
    ),
    "approval_withdrawn": _Text(
        "{tool} did not run: the request to approve this call was taken back{reason}. The same call asks anew.",
        "Call again only if the person you work for still wants it.",
        ": ",
    ),
    "approval_expired": _Text(
        "{tool} did not run: the time within which this call could be approved and made is over. The same call asks "
        "anew.",
        "Call again if the person you work for still wants it, and tell them who must decide.",
    ),
    "approval_claimed": _Text(
        "{tool} did not run: what was approved was given to another call of the same kind, which runs or has run. "
        "One yes is good for one run. The page {page} says how that ended.",
        "Look at {page} before you call again.",
    ),
    "confirmation_refused": _Text(
        "{tool} did not run: the person did not confirm it.",
        "Do not call again unless the person asks for it.",
    ),
    "approval_impossible": _Text(
        "{tool} did not run: this call must be approved by a person, and cannot be. {reason} {ask}",
        "{ask}",
    ),
    "approvals_unavailable": _Text(
        "{tool} did not run: whether it is approved cannot be known right now. Repeat the same call with the same "
        "arguments in a minute: it goes on with what was decided, or asks anew.",
        "Repeat the same call in a minute. {ask}",
    ),
    "caller_gone": _Text("{tool} did not run: the caller left before it was decided.", "Repeat the same call."),
}


def refusal_of(code: str, tool: str, access: ServerAccess, answer: Answer | None = None, reason: str = "") -> Refusal:
    """Why a call does not run now, for records and callers. `reason` is a person's, or ours if impossible."""
    text = TEXTS[code]
    values = {
        "tool": tool,
        "who": _who(answer) if answer else "",
        "page": answer.page if answer else "",
        "until": instant(answer.expires_at_ms) if answer else "",
        "reason": reason if code == "approval_impossible" else f"{text.wrote}{shown(reason)}" if reason else "",
        "ask": access.ask,
    }
    return Refusal(
        code=code,
        message=text.message.format(**values),
        layer="server",
        reason=code,
        what_to_do=text.mend.format(**values),
    )


def asked_to_open(tool: str, access: ServerAccess, answer: Answer) -> str:
    """What a client shows its person beside the link to the page."""
    whose = "You decide there" if answer.yours else f"{answer.asks} decides there, and you can follow it"
    return (
        f"{tool} of {access.server} waits for a yes to exactly this call. {whose}. "
        "What you answer here approves nothing by itself."
    )


def left_out_told(left_out: Iterable[tuple[Any, Told]]) -> str:
    """What a result says of what was not approved, a line each."""
    lines = [
        f"- {shown(element)}: {_BECAME.get(told.state, 'not approved')}{_why(told)}" for element, told in left_out
    ]
    return "\n".join(["Left out, because nobody approved it:", *lines])


_BECAME: Final = {
    Stage.REJECTED: "rejected",
    Stage.WITHDRAWN: "taken back",
    Stage.EXPIRED: "not decided in time",
}


def _why(told: Told) -> str:
    by = f" by {shown(told.decided_by)}" if told.decided_by else ""
    return f"{by}, who wrote {shown(told.reason)}" if told.reason and by else by


def _who(answer: Answer) -> str:
    decided = next((told.decided_by for told in answer.actions if told.decided_by), "")
    if any(told.state is Stage.REJECTED for told in answer.actions) and decided:
        return shown(decided)
    return "the person you work for" if answer.yours else answer.asks


def instant(at_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
