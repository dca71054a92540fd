"""`pegboard releases`: what was submitted of a server, what became of it, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pegboard.cli import render
from pegboard.cli.author.following import Submission, end, follow, release_of, tell
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line, moment
from pegboard.cli.whence import came_from, submitter_of
from pegboard.core.names import ServerName
from pegboard.core.text import sentence

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient

EVERY = 100_000
ACTIONS = ("list", "show", "diff")

ServerArgument = Annotated[str, typer.Argument(metavar="NS/NAME", help="The server.")]


@with_options
def releases(
    options: Options,
    server: ServerArgument,
    action: Annotated[str, typer.Argument(metavar="[list|show|diff]", help="What to do. Default: list.")] = "list",
    release: Annotated[
        str | None,
        typer.Argument(metavar="[RELEASE]", help="A version, a digest's beginning, or an id. Default: the newest."),
    ] = None,
    follows: Annotated[
        bool, typer.Option("--follow", help="show: stay until it is live, in review or failed.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="list: so many at most.")] = 20,
) -> None:
    """List a server's releases, show one, or say what differs from the one before it. Times are UTC.

    \b
    Examples:
      pegboard releases dev/weather
      pegboard releases prod/presto show 1.4.0
      pegboard releases prod/presto diff
      pegboard releases dev/weather show 01hxyz --follow
    """
    name = server_named(server)
    if action not in ACTIONS:
        raise Failure.usage(f"{line(action)} is none of {', '.join(ACTIONS)}.")
    if action == "list" and release is not None:
        raise Failure.usage("list takes no RELEASE.", f"Show it: pegboard releases {name} show {line(release)}")
    if follows and action != "show":
        raise Failure.usage("--follow belongs to show.")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        if action == "list":
            _list(hub, name, limit, options)
            return
        found = hub.get(f"submissions/{quote(submission_named(hub, name, release, options), safe='')}")
        submission = Submission(str(name), str(found.get("id", "")))
        if action == "diff":
            _differs(found, options)
        elif follows:
            follow(submission, hub.get, options)
            end(submission, hub.get(submission.path), options)
        else:
            _show(hub, submission, found, options)


def server_named(text: str) -> ServerName:
    """`namespace/name`, read.

    Raises:
        Failure: wrong usage.
    """
    try:
        return ServerName.parse(text)
    except ValueError as error:
        raise Failure.usage(f"{error}.") from error


@contextmanager
def about(hub: HubClient, server: ServerName) -> Iterator[None]:
    """Say of a server that is not there what there is, as everywhere."""
    try:
        yield
    except Failure as failure:
        if failure.error["code"] == "unknown_server":
            raise hub.no_such_server(server) from failure
        raise


def _list(hub: HubClient, server: ServerName, limit: int, options: Options) -> None:
    answer = hub.get(f"servers/{server}/submissions", limit=str(limit))
    if options.as_json:
        render.document(answer)
        return
    found = [each for each in answer.get("submissions") or () if isinstance(each, Mapping)]
    if not found:
        render.hint(f"Nothing of {server} was submitted yet. In its project's folder: pegboard submit")
        return
    render.table(("release", "state", "what is new", "by", "submitted", "id"), [_row(each) for each in found])


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        release_of(found),
        line(found.get("state", "")),
        line(found.get("message") or ""),
        line(found.get("submitted_by") or ""),
        moment(found.get("at")),
        line(found.get("id", "")),
    )


def submission_named(hub: HubClient, server: ServerName, release: str | None, options: Options) -> str:
    """The submission that somebody means: by id, version, or the beginning of a digest of two at least."""
    found = hub.every(f"servers/{server}/submissions", "submissions")
    if release is None and found:
        return str(found[0].get("id", ""))
    wanted = release or ""
    fitting = [each for each in found if wanted in (each.get("id"), each.get("version"))]
    if not fitting and len(wanted) >= 2:
        fitting = [each for each in found if _begins(each, wanted)]
    ids = list(dict.fromkeys(str(each.get("id", "")) for each in fitting))
    see = f"See them: pegboard releases {server}{options.as_arguments()}"
    if not ids:
        what = f"{server} has no release {line(wanted)}." if release else f"Nothing of {server} was submitted yet."
        raise Failure.here(ExitStatus.DENIED, "unknown_release", what, see)
    # The newest of several that are the same release: it was submitted again.
    releases_meant = {each.get("release") or each.get("id") for each in fitting}
    if len(releases_meant) > 1:
        raise Failure.usage(f"{line(wanted)} could be {len(releases_meant)} releases.", see)
    return ids[0]


def _begins(found: Mapping[str, Any], wanted: str) -> bool:
    return any(str(found.get(key) or "").startswith(wanted) for key in ("release", "id"))


def _show(hub: HubClient, submission: Submission, found: Mapping[str, Any], options: Options) -> None:
    events = hub.get(f"{submission.path}/events", after="0")
    if options.as_json:
        render.document({**found, "events": events.get("events", [])})
        return
    for label, value in _facts(submission, found):
        render.text(f"{label:<14}{line(value)}")
    tell(found, submission.differs(options))
    rows = [each for each in events.get("events") or () if isinstance(each, Mapping)]
    if rows:
        print()
        told = [(moment(e.get("at_ms")), e.get("state", ""), e.get("step", ""), e.get("what", "")) for e in rows]
        render.table(("at", "state", "step", "what"), [tuple(line(cell) for cell in row) for row in told])


def _facts(submission: Submission, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "server", submission.server
    yield "release", release_of(found)
    yield "state", str(found.get("state", ""))
    at = moment(found.get("at"))
    yield "submitted by", f"{submitter_of(found)}{f' at {at}' if at else ''}"
    if found.get("message"):
        yield "what is new", found["message"]
    yield from came_from(found)
    for name in ("source", "artifact", "page"):
        if found.get(name):
            yield name, str(found[name])
    trouble = found.get("trouble")
    if isinstance(trouble, Mapping):
        yield "trouble", f"{trouble.get('step', '')}: {trouble.get('what', '')}"
        if trouble.get("mend"):
            yield "to do", sentence(str(trouble["mend"]))
    for review in found.get("reviews") or ():
        if isinstance(review, Mapping):
            yield "review", f"{review.get('kind', '')}, {review.get('state', '')}: {review.get('page', '')}"


def _differs(found: Mapping[str, Any], options: Options) -> None:
    if options.as_json:
        render.document({"id": found.get("id"), "changes": found.get("changes", [])})
        return
    if not found.get("release"):
        state = line(found.get("state", ""))
        render.hint(f"Its state is {state}: it was not built, and nothing can be compared.")
        return
    if not found.get("changes"):
        render.hint("Nothing that a caller or a reviewer would see differs from the release before it.")
        return
    tell({"changes": found["changes"]}, "", most=EVERY)
