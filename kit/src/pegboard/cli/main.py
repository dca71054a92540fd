"""The way into the `pegboard` command. It imports nothing of weight, so that an early Ctrl-C ends it quietly."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""`ExitStatus.INTERRUPTED`, for when Ctrl-C comes before the exit statuses are there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status (`ExitStatus`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no tick mark shows a question mark beside the word, not a trace.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="replace")
    try:
        from pegboard.cli.app import run  # most of a short command's time; Ctrl-C falls in it

        status = run(given)
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)
