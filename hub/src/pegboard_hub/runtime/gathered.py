"""`pegboard metrics`: what the supervisor gathered, also while the hub is away."""

from __future__ import annotations

import sys
import time

import typer

from pegboard_hub.common.home import Home
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption

NOT_THERE = 5
STALE_S = 30.0
"""Age in seconds from which the figures are said to be old; they are gathered every five."""


def metrics(home: HomeOption = DEFAULT_HOME) -> None:
    """Print the metrics of edge, servers and processes, in Prometheus' text format.

    They are read from the instance's own folder, so it works while the hub is away; the hub's own metrics are at
    `/metrics` alone. The exit status is 5 when nothing was gathered.

    \b
    Example:
      pegboard metrics --home /srv/pegboard | grep _up
    """
    path = Home.at(home).gathered
    try:
        age = time.time() - path.stat().st_mtime
        page = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        print(f"Nothing is gathered: no instance runs on {home}.", file=sys.stderr)
        raise typer.Exit(NOT_THERE) from None
    except PermissionError:
        print(f"error: the instance of {home} belongs to another user: run this as that user.", file=sys.stderr)
        raise typer.Exit(1) from None
    if age > STALE_S:
        print(f"These figures are {age:.0f} s old: the supervisor does not gather any more.", file=sys.stderr)
    print(page, end="")
