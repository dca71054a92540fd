"""A release on its way, told as it goes: each step with its time, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options
from pegboard.cli.patiently import Patiently
from pegboard.cli.text import clean, line, review_title
from pegboard.core.publishing import UNDER_WAY, Severity, State
from pegboard.core.text import sentence

HELD_S = 20
"""Seconds that the hub holds a question until there is something new; below what a client waits for an answer."""

AWAY_S = 1.0
"""Seconds between two tries while the hub does not answer."""

MOST_LINES = 12
"""Lines of what differs that are told beside something else; `releases … diff` tells all."""

BUILDER = "machine-"
"""How the platform's own builders are called: who builds is of interest to no author."""

Get = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Submission:
    """One submitted project on its way.

    Attributes:
        server: `namespace/name`.
        id: of the submission.
    """

    server: str
    id: str

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"submissions/{quote(self.id, safe='')}"

    def look(self, options: Options) -> str:
        """The command that looks at it again."""
        return f"pegboard releases {self.server} show {self.id} --follow{options.as_arguments()}"

    def differs(self, options: Options) -> str:
        """The command that prints what differs from the release before."""
        return f"pegboard releases {self.server} diff {self.id}{options.as_arguments()}"


def follow(submission: Submission, get: Get, options: Options, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print each step until the release is at rest, on stderr for `--json`. A hub that is away is waited for.

    Raises:
        Failure: the submission cannot be looked at.
        KeyboardInterrupt: the person leaves; it goes on without them, and they are told how to look again.
    """
    say = render.hint if options.as_json else render.text
    after, began, patiently = 0, 0, Patiently()
    try:
        while True:
            asked = {"after": str(after), "wait_s": str(HELD_S)}
            found = patiently.ask(partial(get, f"{submission.path}/events", **asked))
            if found is None:
                sleep(AWAY_S)
                continue
            events = [each for each in found.get("events") or () if isinstance(each, Mapping)]
            for event in events:
                began = began or int(event.get("at_ms") or 0)
                say(_row(event, began))
                after = max(after, int(event.get("seq", after)))
            state = found.get("state") or (events[-1].get("state") if events else "")
            if state and state not in UNDER_WAY and not (events and found.get("more")):
                return
    except KeyboardInterrupt:
        render.hint("")
        render.hint(f"It goes on without you. Look again: {submission.look(options)}")
        raise


def end(
    submission: Submission, found: Mapping[str, Any], options: Options, said: Collection[str] = frozenset()
) -> None:
    """Say how it ended.

    Args:
        submission: that came to rest.
        found: what the hub has of it.
        options: of the command.
        said: findings that were printed already, as lines.

    Raises:
        Failure: it waits for people (status 4), or is not live (status 1).
    """
    state = str(found.get("state", ""))
    if state == State.LIVE:
        if options.as_json:
            render.document(found)
            return
        tell(found, submission.differs(options), said=said)
        render.text(f"{submission.server} is live: {release_of(found)}")
        render.hint(f"Its tools: pegboard tools {submission.server}{options.as_arguments()}")
        render.hint(f"Its log:   pegboard logs {submission.server} --follow{options.as_arguments()}")
        return
    failure = _ended(submission, state, found, options)
    failure.details = {"submission": dict(found)}
    if not options.as_json:
        tell(found, submission.differs(options), said=said)
    raise failure


def tell(found: Mapping[str, Any], whole: str, most: int = MOST_LINES, said: Collection[str] = frozenset()) -> None:
    """Print what checks found that was not said yet, and so many lines of what differs from the release before.

    Args:
        found: what the hub has of it.
        whole: the command that prints all that differs.
        most: lines of what differs.
        said: findings that were printed already, as lines.
    """
    for finding in found.get("findings") or ():
        if not isinstance(finding, Mapping) or finding.get("severity") == Severity.NOTE:
            continue
        if (told := _finding(finding)) not in said:
            render.text(told)
    changes = _changes(found)
    for change in changes[:most]:
        render.text(f"  {change}")
    if len(changes) > most:
        render.text(f"  … and {len(changes) - most} lines more: {whole}")


def release_of(found: Mapping[str, Any]) -> str:
    """A release, as people call it: its version and the beginning of its digest."""
    digest = str(found.get("release") or "")[:12]
    version = str(found.get("version") or "")
    return line(f"{version} ({digest})" if version and digest else version or digest or "no release yet")


def _row(event: Mapping[str, Any], began: int) -> str:
    passed = max(0, int(event.get("at_ms") or began) - began) / 1000
    words = ": ".join(part for part in (line(event.get("step") or ""), line(event.get("what") or "")) if part)
    name = line(event.get("who") or "")
    who = f" ({name})" if name and not name.startswith(BUILDER) else ""
    return f"[{passed:6.1f} s] {line(event.get('state', '')):<11} {words}{who}".rstrip()


def _ended(submission: Submission, state: str, found: Mapping[str, Any], options: Options) -> Failure:
    if state == State.IN_REVIEW:
        reviews = [each for each in found.get("reviews") or () if isinstance(each, Mapping)]
        open_ones = [each for each in reviews if each.get("state", "open") == "open"]
        whom = ", ".join(review_title(each.get("kind", "")) for each in open_ones)
        message = f"{submission.server} waits for reviews{f': {whom}' if whom else ''}. What runs goes on running."
        failure = Failure.here(ExitStatus.WAITING, "in_review", message)
        failure.error["layer"] = "hub"
        pages = [f"  {line(each['page'])}" for each in open_ones if each.get("page")]
        look = f"They are at {options.url}/reviews. Once they are done it goes live by itself; watch it:"
        failure.hints = (*pages, look, f"  {submission.look(options)}")
        return failure
    trouble = found.get("trouble")
    trouble = trouble if isinstance(trouble, Mapping) else {}
    words = {
        State.FAILED: "was not released",
        State.ROLLED_BACK: "was rolled back",
        State.SUPERSEDED: "was taken back" if found.get("step") == "taken back" else "gave way to a newer release",
    }.get(State(state) if state in set(State) else State.FAILED, f"is {line(state)}")
    step, what = line(trouble.get("step") or ""), clean(trouble.get("what") or "")
    why = f", at {step}" if step else ""
    message = f"{submission.server} {words}{why}{f': {what}' if what else ''}"
    message = message if message.endswith((".", "!", "?")) else f"{message}."
    mend = sentence(line(trouble.get("mend") or "what ran before goes on running"))
    failure = Failure.here(ExitStatus.FAILED, "not_released", message, mend)
    failure.hints = (
        f"All of it: pegboard releases {submission.server} show {submission.id}{options.as_arguments()}",
    )
    return failure


def _finding(finding: Mapping[str, Any]) -> str:
    fix = f" {line(finding['fix'])}" if finding.get("fix") else ""
    severity = line(finding.get("severity", ""))
    head = "" if severity == Severity.ERROR else f"{severity}: "
    place, code, what = (line(finding.get(name, "")) for name in ("place", "code", "what"))
    return f"{place}: {head}{code} {what}{fix}"


def _changes(found: Mapping[str, Any]) -> list[str]:
    """What differs from the release before: what it is, and how it was and is."""
    rows: list[str] = []
    for change in found.get("changes") or ():
        if not isinstance(change, Mapping):
            continue
        before, after = (clean(change.get(name) or "").splitlines() for name in ("before", "after"))
        sign = "~" if before and after else "+" if after else "-"
        what = f"{sign} {line(change.get('what') or '')}"
        if len(before) <= 1 and len(after) <= 1:
            rows.append(f"{what}: {' → '.join((*before, *after))}")
        else:
            rows += [what, *_lines(before, after)]
    return rows


def _lines(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The lines that went and came; those that stayed are told by nobody."""
    from pegboard.core.differences import compared

    one, two = ("".join(f"{each}\n" for each in lines) for lines in (before, after))
    for part in compared(one, two, "line"):
        if sign := {"gone": "-", "new": "+"}.get(part.op):
            yield from (f"    {sign} {each}" for each in part.text.splitlines())
