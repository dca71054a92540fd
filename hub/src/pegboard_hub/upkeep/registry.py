"""`pegboard registry export | import`: the grants file as the registry has it, for those who keep it in git."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pegboard.core.errors import ConfigurationError, unreadable
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime.looking import JsonOption
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.upkeep.hub_door import HubDoor

DOOR = "/internal/v1/registry"
WORDS = {
    "new": "is new",
    "changes": "changes",
    "retires": "is retired",
    "conflicts": "CONFLICTS",
    "differs": "differs, and the registry decides: nothing would change",
}

registry = typer.Typer(
    name="registry",
    help="Take the grants file out of the registry, and see what one would change.",
    add_completion=False,
    rich_markup_mode=None,
)


@registry.command("export")
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Put it there at once, as a whole.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print the grants file as the registry of a running instance has it.

    Reviews are named in comments; order, layout and comments of your own are not kept. Saved as the grants file it
    changes nothing, and whatever the file and the registry disagreed on is as the registry has it. Where code comes
    from is the file's alone, and is kept; put into another folder, it is written in full. Reasons that reviewers
    gave are left out: what you then add is yours, and wants one of your own. What differs in substance,
    `pegboard registry import --dry-run` tells.

    \b
    Example:
      pegboard registry export --output grants.toml
    """
    if output is not None and not output.parent.is_dir():
        raise ConfigurationError(str(output), ["cannot be written: there is no such folder"])
    with HubDoor(Home.at(home)) as hub:
        into = f"?{urlencode({'into': output.absolute().parent})}" if output is not None else ""
        found = hub.ask("GET", f"{DOOR}/export{into}")
    text = json.dumps(found, indent=2) + "\n" if as_json else str(found["text"])
    if output is None:
        print(text, end="")
        return
    try:
        replace_file(output, text)
    except OSError as error:
        raise ConfigurationError(str(output), [f"cannot be written: {error.strerror}"]) from error
    print(f"Written to {output}.", file=sys.stderr)


@registry.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A grants file; - for stdin.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would change; nothing else is done.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Tell what a grants file would change in the registry of a running instance, what conflicts and what differs.

    It is taken as if it were saved as the instance's grants file: its sources are relative to where that lies.
    The exit status is 1 where something conflicts: the registry was changed since the file was last taken over, and
    the file says something else. A file is imported by saving it as the instance's grants file.

    \b
    Example:
      pegboard registry import --dry-run grants.toml
    """
    with HubDoor(Home.at(home)) as hub:
        if not dry_run:
            raise typer.BadParameter(f"--dry-run is missing; to import a file, save it: {_followed(hub)}")
        found = hub.ask("POST", f"{DOOR}/import", {"text": _text(file)})
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found["servers"])) or "Nothing would change.")
    if any(each["conflicts"] for each in found["servers"]):
        raise typer.Exit(1)


def _followed(hub: HubDoor) -> str:
    return str(hub.ask("GET", f"{DOOR}/export")["grants"])


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(file), [f"cannot be read: {unreadable(error)}"]) from error


def _lines(servers: Any) -> Iterator[str]:
    for each in servers:
        yield f"{each['server']} {WORDS[each['what']]}"
        for field, (before, after) in each["fields"].items():
            yield f"  {field}: {_told(before)} → {_told(after)}"
        for field, (file, here) in each["conflicts"].items():
            yield f"  {field}: the file says {_told(file)}, and the registry, changed since, {_told(here)}"
        for field, (file, here) in each["differs"].items():
            yield f"  {field}: the file says {_told(file)}, as ever; the registry has decided on {_told(here)}"


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
