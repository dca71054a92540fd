"""`reviews`: what people look at before production. It shows them; a person decides on them, in a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import typer

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line, review_title
from pegboard.cli.there import NoBrowserOption, go_on
from pegboard.cli.whence import came_from, submitter_of

LABELS = {"opened_why": "why", "outcome_why": "why so", "conditions": "conditions"}

reviews = typer.Typer(
    name="reviews",
    help="Look at the reviews of servers, releases and access. Times are UTC.",
    rich_markup_mode=None,
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The review's id, as `reviews list` shows it.")]


@reviews.command("list")
@with_options
def list_reviews(
    options: Options,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that wait for you.")] = False,
    server: Annotated[str | None, typer.Option("--server", metavar="NS/NAME", help="Only of this server.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="Only open, approved, rejected or superseded ones.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only security, privacy or genai.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="So many at most.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where the page before ended.")] = None,
) -> None:
    """List reviews, those that were opened last first.

    \b
    Example:
      pegboard reviews list --waiting
      pegboard reviews list --server prod/presto --state approved --json
    """
    asked = {"server": server, "state": state, "kind": kind, "limit": str(limit), "cursor": cursor}
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        answer = hub.get("reviews", **asked, waiting="true" if waiting else None)
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("reviews", [])
    if not found:
        render.hint("Nothing waits for you." if waiting else "No review that you may see fits.")
        return
    heads = ("server", "review", "state", "asked for by", "asked for", "decided by", "decided", "id")
    render.table(heads, [_row(each) for each in found])
    if answer.get("next"):
        render.hint(f"Older ones: the same command with --cursor {line(answer['next'])}")


@reviews.command("show")
@with_options
def show(options: Options, review: IdArgument) -> None:
    """Show one review: what is asked for, how it was decided, and what was said.

    What differs, line by line, is on its page and in --json.

    \b
    Example:
      pegboard reviews show 4bf92f3577b34da6 --as sol
    """
    found = _found(options, review)
    if options.as_json:
        render.document(found)
        return
    for label, value in _facts(found):
        render.text(f"{label:<14}{line(value)}")


@reviews.command("approve")
@with_options
def approve(options: Options, review: IdArgument, no_browser: NoBrowserOption = False) -> None:
    """Open a review's page, where a person approves it. The exit status is 4: it waits for that.

    No command decides: whoever holds your token, as an agent does, could do it for you.

    \b
    Example:
      pegboard reviews approve 4bf92f3577b34da6
    """
    _decide_there(options, review, no_browser)


@reviews.command("reject")
@with_options
def reject(options: Options, review: IdArgument, no_browser: NoBrowserOption = False) -> None:
    """Open a review's page, where a person rejects it. The exit status is 4: it waits for that.

    \b
    Example:
      pegboard reviews reject 4bf92f3577b34da6
    """
    _decide_there(options, review, no_browser)


def _decide_there(options: Options, review: str, no_browser: bool) -> NoReturn:
    found = _found(options, review)
    page = f"{options.url}/reviews/{quote(str(found['id']), safe='')}"
    if found.get("state") != "open":
        message = f"It is {line(found.get('state', ''))} already; nothing waits there."
        raise Failure.here(ExitStatus.FAILED, "not_open", message, f"Look at it: {page}")
    message = "Reviews are decided by a person in a browser, never by a command."
    go_on(page, "decided_in_a_browser", message, no_browser)


def _found(options: Options, review: str) -> Mapping[str, Any]:
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        try:
            return hub.get(f"reviews/{quote(review, safe='')}")
        except Failure as failure:
            if failure.error["code"] == "not_found":
                message = f"There is no review {line(review)} here for you."
                mend = f"Look for it: pegboard reviews list{options.as_arguments()}"
                raise Failure.here(ExitStatus.DENIED, "not_found", message, mend) from failure
            raise


def _row(review: Mapping[str, Any]) -> tuple[str, ...]:
    waits = " (for you)" if review.get("waits_for_you") else ""
    return (
        line(review.get("server", "")),
        review_title(review.get("kind", "")),
        line(review.get("state", "")) + waits,
        line(review.get("opened_by", "")),
        _moment(review.get("opened_at")),
        line(review.get("decided_by") or ""),
        _moment(review["decided_at"]) if review.get("decided_at") else "",
        line(review.get("id", "")),
    )


def _facts(review: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "server", str(review.get("server", ""))
    yield "review", f"{review_title(review.get('kind', ''))}, {review.get('state', '')}"
    yield "release", str(review.get("release") or "none yet")
    yield "asked for by", f"{review.get('opened_by', '')} on {_moment(review.get('opened_at'))}"
    yield from _origin(review.get("origin"))
    for name, label in LABELS.items():
        if review.get(name):
            yield label, review[name]
    for name in ("requested", "granted"):
        access = review.get(name) or {}
        told = "; ".join(f"{kind} {' '.join(values)}" for kind, values in access.items() if values)
        if told:
            yield name, told
    if review.get("decided_by"):
        yield "decided by", f"{review['decided_by']} on {_moment(review.get('decided_at'))}"
    for change in review.get("changes") or ():
        yield "differs", str(change.get("what", ""))
    for item in review.get("checklist") or ():
        yield "holds" if item.get("holds") else "to look at", str(item.get("item", ""))
    for comment in review.get("comments") or ():
        yield "said", f"{comment.get('author', '')} on {_moment(comment.get('at'))}: {comment.get('text', '')}"
    yield "page", str(review.get("page", ""))


def _origin(origin: Any) -> Iterator[tuple[str, str]]:
    """Where its code comes from; nothing where it was not submitted, or is not for whoever asks."""
    if not isinstance(origin, Mapping):
        return
    yield "submitted by", f"{submitter_of(origin)} on {_moment(origin.get('submitted_at'))}"
    if origin.get("message"):
        yield "what is new", str(origin["message"])
    yield from came_from(origin)
    if origin.get("same_code"):
        yield "code", "the same files as in the release that was live before it"
    if origin.get("first"):
        yield "packages", "all are new: nothing of it was live before"
    for each in origin.get("packages") or ():
        yield "package", f"{each.get('name', '')}: {each.get('before') or 'not there'} → {each.get('now') or 'gone'}"
    for each in origin.get("warnings") or ():
        yield "warning", f"{each.get('code', '')} {each.get('place', '')}: {each.get('what', '')}"


def _moment(at_ms: Any) -> str:
    if not isinstance(at_ms, int):
        return "unknown"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
