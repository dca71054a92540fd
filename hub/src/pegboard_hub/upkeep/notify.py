"""`pegboard notify`: who is told of approvals, and whether they hear it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pegboard_hub.common.home import Home
from pegboard_hub.notify.sending import WHOLE_S
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption, JsonOption
from pegboard_hub.upkeep.hub_door import HubDoor

DOOR = "/internal/v1/notifications"

NOT_WELL = 1

notify = typer.Typer(
    name="notify",
    help="See who is told of approvals, over webhooks, and try whether they hear it.",
    add_completion=False,
    rich_markup_mode=None,
)


@notify.command("list")
def list_destinations(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the destinations of a running instance: of what each is told, and what waits for it.

    The exit status is 1 when something cannot be delivered.

    \b
    Example:
      pegboard notify list
    """
    with HubDoor(Home.at(home)) as hub:
        word = hub.ask("GET", DOOR)
    found, fault = word["destinations"], word["fault"]
    if as_json:
        print(json.dumps(word, indent=2))
    elif fault:
        print(f"Nobody is told of approvals: {fault}")
    elif not found:
        print("Nobody is told of approvals: pegboard up --notify FILE names destinations.")
    else:
        print("\n".join(_line(each) for each in found))
    raise typer.Exit(NOT_WELL if fault or any(each["trouble"] for each in found) else 0)


@notify.command("test")
def try_destination(
    destination: Annotated[str, typer.Argument(help="What the notification file calls it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send a destination one signed message that tells of nothing (`pegboard.test`), now and once.

    The exit status is 1 when it was not taken.

    \b
    Example:
      pegboard notify test platform-chat
    """
    with HubDoor(Home.at(home), patience_s=WHOLE_S + 5) as hub:
        found = hub.ask("POST", f"{DOOR}/test", {"destination": destination})
    if as_json:
        print(json.dumps(found, indent=2))
    elif found["delivered"]:
        print(f"{destination} took it, at {found['origin']}.")
    else:
        print(f"{destination} did not take it, at {found['origin']}: {found['trouble']}.")
    raise typer.Exit(0 if found["delivered"] else NOT_WELL)


def _line(found: dict[str, Any]) -> str:
    whose = "all" if found["groups"] is None else f"what {', '.join(found['groups'])} decide"
    trouble = f"; {found['trouble']}" if found["trouble"] else ""
    return (
        f"{found['name']}  {found['origin']}  {whose}: {', '.join(found['events'])}; {found['waiting']} wait{trouble}"
    )
