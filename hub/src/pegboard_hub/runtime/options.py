"""Options that many commands share. They load next to nothing: some commands must be at work at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pegboard_hub.runtime.users import user_name

DEFAULT_HOME = Path(".pegboard")


def _own(home: Path) -> Path:
    """A home that this user may look into.

    Raises:
        typer.BadParameter: it is somebody else's.
    """
    try:
        owner = user_name(home.stat().st_uid)
    except PermissionError:
        raise typer.BadParameter(f"{home} is where {user_name(os.geteuid())} may not look.") from None
    except OSError:
        return home  # there is none yet
    if home.is_dir() and not os.access(home, os.R_OK | os.X_OK):
        raise typer.BadParameter(
            f"{home} belongs to {owner}, and this is {user_name(os.geteuid())}: run this as {owner}, or as root."
        )
    return home


HomeOption = Annotated[
    Path,
    typer.Option(envvar="PEGBOARD_HOME", readable=False, callback=_own, help="Folder of this instance's state."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
