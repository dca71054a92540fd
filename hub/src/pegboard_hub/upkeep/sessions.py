"""`pegboard sessions`: who is signed in, and signing somebody out of everything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pegboard_hub.common.home import Home
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption, JsonOption
from pegboard_hub.upkeep.hub_door import HubDoor

DOOR = "/internal/v1/sessions"
COLUMNS = ("person", "name", "e-mail", "since", "last used", "until", "browser")
LONGEST_CELL = 60

sessions = typer.Typer(
    name="sessions",
    help="List who is signed in, and sign somebody out of everything at once.",
    add_completion=False,
    rich_markup_mode=None,
)

PersonArgument = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id or e-mail address.")]


@sessions.command("list")
def list_sessions(
    person: Annotated[
        str | None, typer.Argument(metavar="[PERSON]", help="Only this person's, by id or e-mail address.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List who is signed in at a running instance, the newest first. Times are UTC.

    \b
    Example:
      pegboard sessions list
      pegboard sessions list ana@example.com --home /srv/pegboard
    """
    query = f"?{urlencode({'person': person})}" if person else ""
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("GET", f"{DOOR}{query}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(_table(found["sessions"])) if found["sessions"] else "Nobody is signed in.")
    if found["more"]:
        print("There are more; name a person to see theirs.", file=sys.stderr)


@sessions.command("end")
def end(person: PersonArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Sign a person out of every browser and program, at once.

    Edge and servers refuse the tokens that they have within a second or two. It does not keep the person from signing
    in again: that is the company's login to do. The exit status is 1 where nobody of that name is signed in.

    \b
    Example:
      pegboard sessions end ana@example.com
    """
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("POST", f"{DOOR}/end", {"person": person})["sessions"]
    if as_json:
        print(json.dumps({"ended": found}, indent=2))
    elif found:
        people = ", ".join(dict.fromkeys(_cell(each["sub"]) for each in found))
        browsers, them = (f"{len(found)} browsers", "them") if len(found) > 1 else ("1 browser", "it")
        print(f"Signed out of {browsers} and all that came of {them}: {people}")
    else:
        print(f"Nobody who is called {_cell(person)} is signed in.", file=sys.stderr)
    if not found:
        raise typer.Exit(1)


def _table(found: Any) -> Iterator[str]:
    rows = [COLUMNS, *(_row(session) for session in found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(session: Any) -> tuple[str, ...]:
    told = (_cell(session[name] or "") for name in ("sub", "name", "email"))
    times = (_moment(session[name]) for name in ("opened_at_ms", "seen_at_ms", "expires_at_ms"))
    return (*told, *times, _cell(session["device"]))


def _cell(text: str) -> str:
    """One line of text, whatever a login or a browser says of itself."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:LONGEST_CELL])


def _moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
