"""`pegboard withdraw`: a submission is taken back before anything of it runs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from pegboard.cli import render
from pegboard.cli.author.following import release_of
from pegboard.cli.author.releases import about, server_named, submission_named
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line


@with_options
def withdraw(
    options: Options,
    submission: Annotated[
        str, typer.Argument(metavar="SUBMISSION", help="Its id, or NS/NAME for the newest of a server.")
    ],
    why: Annotated[str, typer.Option("--why", help="The reason, in a line; reviewers and its history are told.")],
) -> None:
    """Take a submission back before anything of it runs: reviewers need not look at it. What runs goes on running.

    \b
    Examples:
      pegboard withdraw prod/presto --why "the wrong branch"
      pegboard withdraw 0f3a52c1d4e5b697 --why "the wrong branch"
    """
    if not why.strip():
        raise Failure.usage("--why is empty.", "Say why, for its reviewers and its history.")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        id_ = submission
        if "/" in submission:
            name = server_named(submission)
            with about(hub, name):
                id_ = submission_named(hub, name, None, options)
        found = hub.delete(f"submissions/{quote(id_, safe='')}?{urlencode({'why': why.strip()})}")
    if options.as_json:
        render.document(found)
        return
    release = f", {release_of(found)}" if found.get("release") else ""
    render.text(
        f"Submission {line(id_)} of {line(found.get('server', ''))}{release} is withdrawn. Nothing of it ran."
    )
