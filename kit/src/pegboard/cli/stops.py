"""`stop`, `resume`, `stops`: closing something for everybody at once, and opening it again."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode

import typer

from pegboard.cli import render
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line
from pegboard.cli.there import HomeOption, NoBrowserOption, door, go_on
from pegboard.core.stops import STOP_KINDS

UNITS_S = {"m": 60, "h": 3600, "d": 24 * 3600}

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(STOP_KINDS)}.")]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="NS/NAME/TOOL, NS/NAME, a surface, a person's id or e-mail address, a client, or a SPIFFE ID.",
    ),
]


@with_options
def stop(
    options: Options,
    kind: KindArgument,
    name: NameArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, in one line; whoever calls is told.")],
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="End it by itself: 30m, 4h or 2d from now.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Stop a tool, a server, a surface, a person, a client or a service for everybody, in under two seconds.

    Operators and security stop everything, owners their own servers and tools. It holds until somebody resumes it.

    \b
    Examples:
      pegboard stop server prod/presto --why "it answers with last year's figures"
      pegboard stop person ana@example.com --why "the laptop was stolen" --for 4h
      pegboard stop surface chat --why "the bot was misled" --home /srv/pegboard
    """
    body = {"kind": _kind(kind), "name": name, "why": why}
    until = {"until": int(time.time() * 1000) + _seconds(lasts) * 1000} if lasts else {}
    if home is not None:
        found = door()(home, "POST", "/internal/v1/stops", {**body, **until})
    else:
        from pegboard.cli.client import HubClient

        with HubClient(options) as hub:
            found = hub.post("stops", {**body, **until})
    if options.as_json:
        render.document(found)
        return
    ends = f", until {_moment(found['until'])} UTC" if found.get("until") else ""
    render.text(f"Stopped for everybody: {line(found['kind'])} {line(found['name'])}{ends}")
    if found["kind"] == "person" and "@" in found["name"]:
        render.hint(
            "It holds for whoever has that id. Nobody else is signed in with it as an e-mail address: if theirs"
        )
        render.hint("is another id, stop that (`pegboard ledger list` shows ids).")
    render.hint(f"It goes on again with: pegboard resume {line(found['kind'])} {line(found['name'])}")


@with_options
def resume(
    options: Options,
    kind: KindArgument,
    name: NameArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
    home: HomeOption = None,
    no_browser: NoBrowserOption = False,
) -> None:
    """Resume what is stopped: on the machine at once, else on the page /stops, which this opens.

    To resume widens access: whoever holds your token, as an agent does, could otherwise do it for you. The exit
    status is 4 where it waits for you in the browser.

    \b
    Examples:
      pegboard resume server prod/presto
      pegboard resume person ana --home /srv/pegboard --why "a new laptop"
    """
    kind = _kind(kind)
    if home is None:
        _there(options, kind, name, no_browser)
    found = door()(home, "POST", "/internal/v1/stops/resume", {"kind": kind, "name": name, "why": why})
    if options.as_json:
        render.document(found)
        return
    render.text(f"Resumed for everybody: {line(found['kind'])} {line(found['name'])}")


@with_options
def stops(options: Options, home: HomeOption = None) -> None:
    """List what is stopped, why, and by whom. Times are UTC.

    \b
    Examples:
      pegboard stops --as pat
      pegboard stops --home /srv/pegboard --json
    """
    if home is not None:
        answer = door()(home, "GET", "/internal/v1/stops", None)
    else:
        from pegboard.cli.client import HubClient

        with HubClient(options) as hub:
            answer = hub.get("stops")
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("stops", [])
    if not found:
        render.hint("Nothing that you may know of is stopped.")
        return
    render.table(("kind", "name", "why", "by", "since", "until"), [_row(each) for each in found])


def _there(options: Options, kind: str, name: str, no_browser: bool) -> NoReturn:
    page = f"{options.url}/stops?{urlencode({'kind': kind, 'name': name})}"
    message = "What is stopped is resumed by a person in a browser, or on the machine with --home."
    go_on(page, "resumed_in_a_browser", message, no_browser)


def _kind(kind: str) -> str:
    if kind not in STOP_KINDS:
        raise Failure.usage(f"KIND {line(kind)} is none of {', '.join(STOP_KINDS)}.")
    return kind


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if found is None:
        raise Failure.usage(f"--for {line(text)} is no time: write it as 30m, 4h or 2d.")
    return int(found[1]) * UNITS_S[found[2]]


def _row(stop: Mapping[str, Any]) -> list[str]:
    return [
        line(stop.get("kind", "")),
        line(stop.get("name", "")),
        line(stop.get("why", "")),
        line(stop.get("by", "")),
        _moment(stop.get("since")),
        _moment(stop.get("until")) or "resumed",
    ]


def _moment(at_ms: Any) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}" if isinstance(at_ms, int) else ""
