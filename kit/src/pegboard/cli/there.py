"""Where a command hands over: to a person in a browser, for what no token may do, or to the hub of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pegboard.cli.exit import ExitStatus, Failure

OPENING_S = 5.0
"""Most seconds to wait until the browser has the page."""

DOORS = "pegboard.doors"
"""Entry-point group of the way to a hub on this machine; the hub's own distribution has it."""

Door = Callable[[Path, str, str, Mapping[str, Any] | None], Any]

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="On the machine itself: by the operator's own credential in that folder, without a login.",
    ),
]
NoBrowserOption = Annotated[bool, typer.Option("--no-browser", help="Print the page's address, and open no browser.")]


def somebody_is_here() -> bool:
    """Whether a person can be asked: what they read and what they type is a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def go_on(page: str, code: str, message: str, no_browser: bool) -> NoReturn:
    """Open a page where a person goes on, if a browser can be seen from here, and end with status 4.

    Raises:
        Failure: always; `code` and `message` say what waits there.
    """
    from pegboard.cli.login.browser import has_browser, open_page

    if not no_browser and has_browser(os.environ):
        open_page(page).join(OPENING_S)
    raise Failure.here(ExitStatus.WAITING, code, message, f"Go on there: {page}")


def door() -> Door:
    """The way to the hub of a home on this machine.

    Raises:
        Failure: no hub is installed here.
    """
    for entry in entry_points(group=DOORS, name="hub"):
        door: Door = entry.load()
        return door
    mend = "Run it where pegboard-hub is installed, or leave --home out."
    raise Failure.here(ExitStatus.USAGE, "no_hub", "There is no hub's command on this machine.", mend)
