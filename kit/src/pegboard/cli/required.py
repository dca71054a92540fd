"""`approvals require | lift | required`: tools that run only with an approval, as the registry says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

from pegboard.cli import render
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line
from pegboard.cli.there import HomeOption, NoBrowserOption, door, go_on
from pegboard.core.approval import CALLER, LONGEST_S, OWNER, SHORTEST_S
from pegboard.core.names import NAME_PATTERN, TOOL_PATTERN

UNITS_S = {"m": 60, "h": 3600, "d": 24 * 3600}
INTERNAL = "/internal/v1/approvals/required"

_TOOL = re.compile(rf"({NAME_PATTERN}/{NAME_PATTERN})/{TOOL_PATTERN}")

ToolArgument = Annotated[str, typer.Argument(metavar="NS/NAME/TOOL", help="The tool.")]


@with_options
def require(
    options: Options,
    tool: ToolArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, in one line; callers and approvers are told.")],
    by: Annotated[
        str,
        typer.Option("--by", metavar="WHO", help=f"Who says yes: {OWNER}, {CALLER}, or the name of a group."),
    ] = OWNER,
    own: Annotated[bool, typer.Option("--own", help="Let people approve what they asked for themselves.")] = False,
    within: Annotated[
        str, typer.Option("--within", metavar="TIME", help="How long a request is good: 30m, 4h or 2d.")
    ] = "1h",
    home: HomeOption = None,
    no_browser: NoBrowserOption = False,
) -> None:
    """Have a tool wait for an approval, whatever its code says, in under two seconds and without a release.

    Operators and security require it of every tool, owners of their own servers' tools. Who is asked for already is
    replaced: where a yes could be had more easily by that, a person does it in a browser, which this opens.

    \b
    Examples:
      pegboard approvals require prod/presto/drop_tables --why "a table was dropped by mistake"
      pegboard approvals require prod/presto/run_query --by data-protection --why "the audit" --within 4h
      pegboard approvals require prod/presto/run_query --by caller --why "the bot was misled" --home /srv/pegboard
    """
    server = _server(tool)
    body = {"tool": tool, "by": by, "own": own, "expires_s": _seconds(within), "why": why}
    if home is not None:
        found = door()(home, "POST", INTERNAL, body)
    else:
        from pegboard.cli.client import HubClient

        try:
            with HubClient(options) as hub:
                found = hub.post("approvals/required", body)
        except Failure as failure:
            if failure.error["reason"] != "widens":
                raise
            _there(options, server, failure.error["message"], no_browser)
    if options.as_json:
        render.document(found)
        return
    render.text(f"Needs an approval from now on: {line(found['tool'])}, by {line(found['asked'])}")
    for note in found.get("notes", []):
        render.hint(f"Look: {line(note)}")
    render.hint(f"It is lifted with: pegboard approvals lift {line(found['tool'])}")


@with_options
def lift(
    options: Options,
    tool: ToolArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
    home: HomeOption = None,
    no_browser: NoBrowserOption = False,
) -> None:
    """Lift what `require` put: on the machine at once, else on the server's page, which this opens.

    It lets calls run that wait for a person now: whoever holds your token, as an agent does, could else do it for
    you. The exit status is 4 where it waits for you in the browser. What the tool's own code requires goes on.

    \b
    Examples:
      pegboard approvals lift prod/presto/drop_tables
      pegboard approvals lift prod/presto/run_query --home /srv/pegboard --why "the audit is over"
    """
    server = _server(tool)
    if home is None:
        message = "A requirement is lifted by a person in a browser, or on the machine with --home."
        _there(options, server, message, no_browser)
    found = door()(home, "POST", f"{INTERNAL}/lift", {"tool": tool, "why": why})
    if options.as_json:
        render.document(found)
        return
    render.text(f"Lifted: the registry requires no approval of {line(found['tool'])} any more")


@with_options
def required(
    options: Options,
    history: Annotated[bool, typer.Option("--history", help="What was required and lifted, newest first.")] = False,
    home: HomeOption = None,
) -> None:
    """List the tools that need an approval as the registry says: who says yes, why, and who required it. In UTC.

    \b
    Examples:
      pegboard approvals required --as pat
      pegboard approvals required --history --home /srv/pegboard --json
    """
    path = "/history" if history else ""
    if home is not None:
        answer = door()(home, "GET", INTERNAL + path, None)
    else:
        from pegboard.cli.client import HubClient

        with HubClient(options) as hub:
            answer = hub.get(f"approvals/required{path}")
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("events" if history else "required", [])
    if not found:
        render.hint("Nothing was ever required that you may know of." if history else _NOTHING)
        return
    if history:
        render.table(("when", "tool", "what", "who says yes", "why", "by"), [_event(each) for each in found])
        return
    render.table(("tool", "who says yes", "why", "by", "since"), [_row(each) for each in found])
    for each in found:
        for note in each.get("notes", []):
            render.hint(f"{line(each.get('tool', ''))}: {line(note)}")


_NOTHING = "The registry requires no approval that you may know of."


def _there(options: Options, server: str, message: str, no_browser: bool) -> NoReturn:
    page = f"{options.url}/servers/{server}/security#approvals"
    go_on(page, "required_in_a_browser", message, no_browser)


def _server(tool: str) -> str:
    found = _TOOL.fullmatch(tool)
    if found is None:
        raise Failure.usage(f"{line(tool)} is no tool: write it as NS/NAME/TOOL.")
    return found[1]


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise Failure.usage(f"--within {line(text)} is no time from 1m to 7d: write it as 30m, 4h or 2d.")
    return seconds


def _row(each: Mapping[str, Any]) -> list[str]:
    return [
        *(line(each.get(name, "")) for name in ("tool", "asked", "why", "required_by")),
        _moment(each.get("since")),
    ]


def _event(each: Mapping[str, Any]) -> list[str]:
    after = each.get("after") or {}
    return [
        _moment(each.get("at")),
        line(each.get("tool", "")),
        line(each.get("action", "")),
        line(after.get("by", "")),
        line(each.get("why", "")),
        line(each.get("by", "")),
    ]


def _moment(at_ms: Any) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}" if isinstance(at_ms, int) else ""
