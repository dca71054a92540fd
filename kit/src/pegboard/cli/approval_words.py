"""Requests for an approval as the terminal shows them: as rows of tables, as facts, and whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pegboard.cli.text import line, moment
from pegboard.cli.verbatim import arguments, block, notes, visible
from pegboard.core.approval import OPEN

LONGEST_WHAT = 60
MOST_BESIDE = 8
"""Ids of others that one request's facts name."""

NOT_SAID = "the tool does not say; see what it would run with"
MINUTE_MS = 60_000


def what_of(request: Mapping[str, Any]) -> str:
    """What would happen, in the tool's own words, so short that it pushes nothing away."""
    words = visible(" ".join(str(request.get("what") or NOT_SAID).split()))
    return words if len(words) <= LONGEST_WHAT else f"{words[:LONGEST_WHAT]}…"


def who_of(request: Mapping[str, Any]) -> str:
    """Whose request it is, and who acted for them."""
    return line(
        f"{request.get('person', '')} by {request['act']}" if request.get("act") else request.get("person", "")
    )


def called(request: Mapping[str, Any]) -> str:
    """Which tool of which server is to run."""
    return line(f"{request.get('server', '')} {request.get('tool', '')}")


def _expires(at_ms: Any) -> str:
    """How long that is from now."""
    if not isinstance(at_ms, int):
        return ""
    minutes = (at_ms - int(time.time() * 1000)) // MINUTE_MS
    if minutes < 0:
        return "now"
    return f"in {minutes} min" if minutes < 120 else f"in {minutes // 60} h"


def waiting_row(request: Mapping[str, Any]) -> tuple[str, ...]:
    """A request in the list of those that wait for whoever looks."""
    return (
        line(request.get("id", "")),
        _expires(request.get("expires_at")),
        who_of(request),
        called(request),
        what_of(request),
    )


def mine_row(request: Mapping[str, Any]) -> tuple[str, ...]:
    """A request in the list of those that whoever looks waits for."""
    return (
        line(request.get("id", "")),
        _expires(request.get("expires_at")),
        line(request.get("state", "")),
        called(request),
        line(request.get("asks", "")),
        what_of(request),
    )


def history_row(request: Mapping[str, Any]) -> tuple[str, ...]:
    """A request in the list of all of them, whatever became of it."""
    return (
        moment(request.get("requested_at")),
        who_of(request),
        called(request),
        line(request.get("state", "")),
        line(request.get("decided_by") or ""),
        line(request.get("id", "")),
    )


def facts_of(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who asks for what, in the order in which one reads it; what nobody said is left out."""
    requirement = request.get("requirement") or {}
    others = [each for each in request.get("beside") or () if each != request.get("id")]
    open_ = request.get("state") in OPEN
    rows = (
        ("state", request.get("state", "") + (", and waits for your yes" if request.get("waits_for_you") else "")),
        ("to run", called(request)),
        ("release", str(request.get("release") or "")[:12]),
        ("asked by", f"{who_of(request)} from {request.get('surface', '')}, with {request.get('client', '')}"),
        ("asked for", f"{moment(request.get('requested_at'))} UTC"),
        ("who decides", request.get("asks")),
        ("because", requirement.get("why")),
        ("until", f"{moment(request.get('expires_at'))} UTC" if open_ else ""),
        ("decided by", request.get("decided_by")),
        ("reason", request.get("why")),
        ("ran as", request.get("call_id")),
        ("with it", f"{len(others)} more: {_some(others)}" if others else ""),
        ("page", request.get("page")),
    )
    return ((label, str(value)) for label, value in rows if value)


def _some(ids: Sequence[str]) -> str:
    """The first of many ids: the page has all of them."""
    return " ".join(ids[:MOST_BESIDE]) + (" …, on the page" if len(ids) > MOST_BESIDE else "")


def body_of(request: Mapping[str, Any]) -> Iterator[str]:
    """What is bound to the yes, and what the tool says of it, each line behind a bar."""
    yield ""
    given = request.get("arguments")
    if given is None:
        yield "Its arguments are no longer kept. The ledger has their digest."
        return
    yield "It would run with:" if given else "It would run without arguments."
    yield from arguments(given, "  ")
    preview = request.get("preview")
    if not preview:
        return
    yield ""
    yield f"What {called(request)} says of it, which nobody checked:"
    yield from block(str(preview.get("what", "")), "  ")
    if preview.get("cost"):
        yield "  Cost:"
        yield from block(str(preview["cost"]), "  ")
    for each in preview.get("blocks") or ():
        yield f"  {visible(line(each.get('title', '')))} ({line(each.get('kind', ''))}):"
        yield from block(str(each.get("text", "")), "  ")
    yield from (f"  Look closely: {note}" for note in notes(preview))


def event_words(event: Mapping[str, Any]) -> str:
    """What happened to a request, by whom, through which door and why."""
    by = f" by {line(event['who'])}" if event.get("who") else ""
    door = f" ({line(event['door'])})" if event.get("door") else ""
    why = f": {line(event['why'])}" if event.get("why") else ""
    return f"{line(event.get('after', ''))}{by}{door}{why}"
