"""`pegboard surfaces`: chats and bots that act for people, registered, changed and removed at the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from pegboard.core.jose import new_private_key, public_jwks
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import read_instance
from pegboard_hub.runtime.looking import JsonOption
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.upkeep.hub_door import HubDoor, HubRefused

DOOR = "/internal/v1/surfaces"
MOST_KEY_BYTES = 64 * 1024
LONGEST_CELL = 300

surfaces = typer.Typer(
    name="surfaces",
    help="Register chats and bots that act for people, and look at whom they acted for. Times are UTC.",
    add_completion=False,
    rich_markup_mode=None,
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The surface's client id.")]
WhyOption = Annotated[str, typer.Option("--why", help="Why, for whoever reads the history.")]
GroupsOption = Annotated[
    list[str] | None, typer.Option("--group", help="Business group for whose people it may act. Repeatable.")
]
ServersOption = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="NS/NAME|NS/*", help="Server that it may reach for them. Repeatable."),
]
ChannelsOption = Annotated[
    list[str] | None, typer.Option("--channel", help="Of a bot, a channel it was invited to. Repeatable.")
]
RedirectsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redirect", metavar="URL", help="Where people's sign-in to it answers, if it has one. Repeatable."
    ),
]
KeysOption = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="Its public keys, a JWK set; `surfaces key` makes one.")
]


@surfaces.command("key")
def key(out: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; it is new.")]) -> None:
    """Make a key for a surface. The private half stays with the surface; the public one is what you register.

    \b
    Example:
      pegboard surfaces key ads-bot.json        # and ads-bot.public.json beside it
    """
    private, public = new_private_key(), out.with_suffix(".public.json")
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(private, file)
        public.write_text(json.dumps(public_jwks(private), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{error.filename} cannot be written: {error.strerror}.") from error
    print(f"{out} is the surface's alone. Register {public}: pegboard surfaces register ID --keys {public} …")


@surfaces.command("list")
def list_surfaces(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the surfaces that act for people.

    \b
    Example:
      pegboard surfaces list --home /srv/pegboard
    """
    found = _ask(home, "GET", "")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    rows = [("id", "surface", "acts for", "reaches", "in"), *(_row(each) for each in found["surfaces"])]
    print("\n".join(_table(rows)) if found["surfaces"] else "No surface acts for people here.")


@surfaces.command("show")
def show(client_id: IdArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one surface, and for whom it acted last.

    \b
    Example:
      pegboard surfaces show ads-bot
    """
    surface = _known(home, client_id)
    acted = _ask(home, "GET", f"/exchanges?{urlencode({'surface': client_id})}")["exchanges"]
    if as_json:
        print(json.dumps({**surface, "exchanges": acted}, indent=2))
        return
    for name, value in surface.items():
        print(f"{name:<14}{_cell(', '.join(value) if isinstance(value, list) else value)}")
    rows = [("when", "for", "in", "server", "came of it"), *(_exchange(each) for each in acted)]
    print("\n".join(["", *_table(rows)]) if acted else "\nIt has acted for nobody.")


@surfaces.command("register")
def register(
    client_id: IdArgument,
    surface: Annotated[str, typer.Option("--surface", help="What it is: chat or bot.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="FILE", help="Its public keys, a JWK set.")],
    why: WhyOption,
    name: Annotated[str, typer.Option("--name", help="How people call it; else its id.")] = "",
    group: GroupsOption = None,
    server: ServersOption = None,
    channel: ChannelsOption = None,
    redirect: RedirectsOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register a chat or a bot that acts for people. Nothing is open to it by default: name each group and server.

    It acts for those who let it, each in a browser, and reaches what is open to them from there.

    \b
    Example:
      pegboard surfaces register ads-bot --surface bot --keys ads-bot.public.json \\
        --group ads-eng --server 'prod/*' --channel '#data-help' --why 'asked for in OPS-12'
    """
    said = {
        "client_id": client_id,
        "name": name or client_id,
        "surface": surface,
        "jwks": _keys(keys),
        "groups": group or [],
        "servers": server or [],
        "channels": channel or [],
        "redirect_uris": redirect or [],
        "why": why,
    }
    _tell(home, _ask(home, "POST", "/register", said), as_json, "Registered. People let it act for them")


@surfaces.command("change")
def change(
    client_id: IdArgument,
    why: WhyOption,
    name: Annotated[str | None, typer.Option("--name", help="How people call it.")] = None,
    group: GroupsOption = None,
    server: ServersOption = None,
    channel: ChannelsOption = None,
    redirect: RedirectsOption = None,
    keys: KeysOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change what a surface may, or its keys. What is given replaces what there was; what is not stays.

    Tokens that it has are void at once; it exchanges anew under the new facts.

    \b
    Example:
      pegboard surfaces change ads-bot --keys ads-bot-2.public.json --why 'the old key leaked'
    """
    now = _known(home, client_id)
    given = {"name": name, "groups": group, "servers": server, "channels": channel, "redirect_uris": redirect}
    said = {**{field: now[field] for field in (*given, "client_id", "surface", "version")}, "why": why}
    said |= {field: value for field, value in given.items() if value is not None}
    said["jwks"] = _keys(keys) if keys is not None else {}
    words = "Changed, and what it had is void. People let it act for them"
    _tell(home, _ask(home, "POST", "/change", said), as_json, words)


@surfaces.command("remove")
def remove(
    client_id: IdArgument, why: WhyOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Remove a surface: it gets nothing any more, what it has is void, and everybody's yes to it has ended.

    \b
    Example:
      pegboard surfaces remove ads-bot --why 'nobody uses it'
    """
    removed = _ask(home, "POST", "/remove", {"client_id": client_id, "why": why})
    if as_json:
        print(json.dumps(removed, indent=2))
        return
    print(f"Removed: {_cell(removed['client_id'])}")


@surfaces.command("history")
def history(
    client_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this surface's.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show who registered, changed and removed surfaces, when and why.

    \b
    Example:
      pegboard surfaces history ads-bot
    """
    query = f"?{urlencode({'surface': client_id})}" if client_id else ""
    found = _ask(home, "GET", f"/history{query}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    rows = [("when", "what", "id", "by", "why"), *(_event(each) for each in found["events"])]
    print("\n".join(_table(rows)) if found["events"] else "Nothing was done with surfaces.")


def _ask(home: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    with HubDoor(Home.at(home)) as hub:
        return hub.ask(method, f"{DOOR}{path}", body)


def _known(home: Path, client_id: str) -> dict[str, Any]:
    """A registered surface.

    Raises:
        HubRefused: there is none of that id.
    """
    for each in _ask(home, "GET", "")["surfaces"]:
        if each["client_id"] == client_id:
            found: dict[str, Any] = each
            return found
    raise HubRefused(f"No surface {_cell(client_id)} is registered; `pegboard surfaces list` shows those that are.")


def _keys(path: Path) -> Any:
    """The public keys of a file. A private one is refused here already, so that it does not travel."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MOST_KEY_BYTES))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise typer.BadParameter(
            f"{path} is no JSON: hand over a JWK set, as `pegboard surfaces key` makes."
        ) from error
    if isinstance(found, dict) and ("d" in found or any("d" in each for each in _dicts(found.get("keys")))):
        raise typer.BadParameter(
            f"{path} holds a private key, which is the surface's alone: hand over the public one."
        )
    return found


def _dicts(found: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in found or () if isinstance(each, dict))


def _tell(home: Path, surface: Mapping[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        print(json.dumps(surface, indent=2))
        return
    url = read_instance(Home.at(home)).get("public_url", "")
    print(f"{words} at {url}/acting?client={_cell(surface['client_id'])}")


def _row(surface: Mapping[str, Any]) -> tuple[str, ...]:
    lists = (", ".join(surface[name]) for name in ("groups", "servers", "channels"))
    return tuple(_cell(each) for each in (surface["client_id"], surface["surface"], *lists))


def _exchange(acted: Mapping[str, Any]) -> tuple[str, ...]:
    came = (
        f"{acted['error']}: {acted['detail']}" if acted["error"] else f"a token until {_moment(acted['expires_at'])}"
    )
    named = (acted["person"] or "nobody verified", acted["channel"] or "", acted["resource"], came)
    return (_moment(acted["at"]), *(_cell(each) for each in named))


def _event(event: Mapping[str, Any]) -> tuple[str, ...]:
    told = (event["action"], event["surface"]["client_id"], event["by"], event["why"])
    return (_moment(event["at"]), *(_cell(each) for each in told))


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    """One line of text, whatever somebody wrote."""
    return "".join(sign if sign.isprintable() else " " for sign in str(value)[:LONGEST_CELL])


def _moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
