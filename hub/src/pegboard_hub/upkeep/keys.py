"""`pegboard keys`: the keys that sign tokens and bundles, listed and rotated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from pegboard.core.errors import Unreachable
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption, JsonOption
from pegboard_hub.upkeep.hub_door import HubDoor
from pegboard_hub.upkeep.leaked.command import forged, leaked

STILL_WAITING = 4
"""Exit status when somebody did not acknowledge in time: a person has to look."""

LOOK_S = 0.25

DOOR = "/internal/v1/keys"

keys = typer.Typer(
    name="keys",
    help="List the keys that sign tokens and bundles, rotate them, and give up those that leaked.",
    add_completion=False,
    rich_markup_mode=None,
)

keys.command("leaked")(leaked)
keys.command("forged")(forged)


class Which(StrEnum):
    """Which keys are rotated."""

    TOKENS = "tokens"
    BUNDLES = "bundles"
    ALL = "all"

    @property
    def purposes(self) -> list[str]:
        """What the keys sign."""
        return ["bundles", "tokens"] if self is Which.ALL else [self.value]


@keys.command("list")
def list_keys(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the keys of a running instance, and for whom a rotation waits. Times are UTC.

    The next key is published and does not sign yet, the current one signs, and a retired one is still verified with.

    \b
    Example:
      pegboard keys list --home /srv/pegboard
    """
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("GET", DOOR)
    print(json.dumps(found, indent=2) if as_json else "\n".join(_table(found)))


@keys.command("rotate")
def rotate(
    which: Annotated[Which, typer.Argument(help="The keys that sign these.")] = Which.ALL,
    home: HomeOption = DEFAULT_HOME,
    patience: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for; the rotation goes on after that.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Rotate keys, and return when the new ones sign. No call fails by it.

    A new key signs once the edge and every server that runs has acknowledged it. A rotation that is under way is
    joined. The exit status is 4 when it still waits for somebody: it then goes on by itself.

    \b
    Example:
      pegboard keys rotate
      pegboard keys rotate tokens --home /srv/pegboard
    """
    deadline = time.monotonic() + patience
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("POST", f"{DOOR}/rotate", {"purposes": which.purposes})
        coming = {each["purpose"]: each["kid"] for each in found["rotations"] if each["purpose"] in which.purposes}
        for purpose in found["joined"]:
            _say(f"{purpose}: a rotation is under way already, and this one joins it")
        found = _watch(hub, found, coming, deadline)
    waits = [each for each in found["rotations"] if coming.get(each["purpose"]) == each["kid"]]
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for purpose, kid in coming.items():
            if purpose not in {each["purpose"] for each in waits}:
                print(f"{purpose}: {kid} signs now")
    for each in waits:
        _say(f"{each['purpose']}: {_awaited(each)}. It goes on by itself; look with `pegboard keys list`")
    raise typer.Exit(STILL_WAITING if waits else 0)


def _watch(hub: HubDoor, found: Any, coming: dict[str, str], deadline: float) -> Any:
    """The last word once every new key signs, or when the time is over. A hub that is away goes on later."""
    say = _once()
    while True:
        waits = [each for each in found["rotations"] if coming.get(each["purpose"]) == each["kid"]]
        for each in waits:
            say(f"{each['purpose']}: {each['kid']} is published; {_progress(each)}")
        if not waits or time.monotonic() >= deadline:
            return found
        time.sleep(LOOK_S)
        try:
            found = hub.ask("GET", DOOR)
        except Unreachable:
            if time.monotonic() >= deadline:
                raise
            say("the hub does not answer just now; the rotation goes on when it is back")


def _progress(rotation: Any) -> str:
    acknowledged = [each["consumer"] for each in rotation["consumers"] if each["acknowledged"]]
    down = [each["consumer"] for each in rotation["consumers"] if not each["acknowledged"] and not each["awaited"]]
    parts = [f"acknowledged by {_few(acknowledged)}", _awaited(rotation)]
    return "; ".join([*parts, f"down, so not waited for: {_few(down)}"] if down else parts)


def _awaited(rotation: Any) -> str:
    awaited = [f"{each['consumer']} ({each['state']})" for each in rotation["consumers"] if each["awaited"]]
    return f"waits for {_few(awaited)}" if awaited else "nobody is waited for, it is about to sign"


def _few(names: list[str], most: int = 5) -> str:
    more = [f"{len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more]) or "nobody yet"


def _once() -> Callable[[str], None]:
    """Say a line, and not the same one twice in a row for one subject."""
    said: dict[str, str] = {}

    def say(line: str) -> None:
        subject = line.partition(":")[0]
        if said.get(subject) != line:
            said[subject] = line
            _say(line)

    return say


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


COLUMNS = ("purpose", "state", "since", "used until", "kid")


def _table(found: Any) -> Iterator[str]:
    rows = [COLUMNS, *(_row(key) for key in found["keys"])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for leak in found["given_up"]:
        why = f"{leak['by']}: {leak['why'] or 'no reason'}"
        yield f"given up {_moment(leak['at'])}: {', '.join(leak['purposes'])}; {why}"
    for rotation in found["rotations"]:
        begun = f"{rotation['purpose']}: a rotation is under way since {_moment(rotation['since'])}"
        yield f"{begun}; {_progress(rotation)}"


def _row(key: Any) -> tuple[str, ...]:
    since = key["signs_since"] or key["made_at"]
    return key["purpose"], key["state"], _moment(since), _moment(key["until"]) if key["until"] else "", key["kid"]


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
