"""`explain`: what a call would meet, rule by rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.arguments import parse_json, parse_pairs
from pegboard.cli.catalogue import server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line
from pegboard.core.scopes import SCOPE_TOOLS, SERVER_SCOPES

SCOPES = " or ".join(SERVER_SCOPES)


@with_options
def explain(
    options: Options,
    server: Annotated[str, typer.Option("--server", metavar="NS/NAME", help="The server to be explained.")],
    tool: Annotated[str | None, typer.Option("--tool", help="One tool of it; else the server as a whole.")] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Somebody else; for the server's owners and security only.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="An argument of the call; JSON, else text. Repeatable."),
    ] = None,
    json_args: Annotated[
        str | None,
        typer.Option("--json-args", metavar="JSON|-", help="All arguments as one JSON object; - is stdin."),
    ] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help=f"Scope of the call's token, {SCOPES}; else {SCOPE_TOOLS}.")
    ] = None,
) -> None:
    """Walk a call through every layer: what it would meet, and why.

    The exit status is 0 when it would be allowed and 3 when it would be denied.

    \b
    Example:
      pegboard explain --server prod/presto --tool get_revenue_metrics --as ana
      pegboard explain --server prod/presto --as pat --person gus
      pegboard explain --server prod/presto --tool run_query --as ana --arg sql='SELECT 1'
    """
    name = server_name(server)
    arguments = _arguments(tool, arg, json_args)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        asked = {"tool": tool, "person": person, "surface": options.surface, "channel": options.channel}
        asked |= {"arguments": arguments, "scope": scope}
        try:
            answer = hub.get("explain", server=str(name), **asked)
        except Failure as failure:
            if failure.error["code"] == "unknown_server":
                raise hub.no_such_server(name) from failure
            raise
    if options.as_json:
        render.document(answer)
    else:
        _show(answer, str(name), other=person or "")
    raise typer.Exit(ExitStatus.DONE if answer.get("allowed") is True else ExitStatus.DENIED)


def _arguments(tool: str | None, pairs: list[str] | None, whole: str | None) -> str | None:
    if not pairs and whole is None:
        return None
    if pairs and whole is not None:
        raise Failure.usage("--arg and --json-args exclude each other.", "Use one of them.")
    if tool is None:
        raise Failure.usage("Arguments need a tool.", "Name it with --tool.")
    if whole is None:
        return json.dumps(parse_pairs(pairs or [], None))
    return json.dumps(parse_json(sys.stdin.read() if whole == "-" else whole))


def _show(answer: Mapping[str, Any], server: str, other: str) -> None:
    """Print the walk and what comes of it. `other` is whose call it is, where it is not the asker's own."""
    what = f"{server} {answer['tool']}" if answer.get("tool") else server
    render.text(line(f"{answer.get('person', '')} from {answer.get('surface', '')} → {what}"))
    print()
    steps = answer.get("steps", ())
    rows = [(_MARKS.get(step.get("outcome"), "?"), *(step.get(each, "") for each in _COLUMNS)) for step in steps]
    render.table(("", *_COLUMNS), rows)
    print()
    refusal = answer.get("refusal") or {}
    if answer.get("allowed") is True:
        render.text(_verdict(steps))
        return
    told = f"{line(other)} would read: " if other else ""
    render.text(f"Denied by the {line(refusal.get('layer', ''))}: {told}{line(refusal.get('message', ''))}")
    to_do = line(refusal.get("what_to_do", ""))
    if to_do and to_do not in line(refusal.get("message", "")):
        render.text(to_do)


def _verdict(steps: Sequence[Mapping[str, Any]]) -> str:
    """For a call that no rule refuses."""
    for step in steps:
        if step.get("outcome") == "fails":
            return f"No rule refuses it, but it would fail now: {line(step['fact'])}. {line(step.get('ask', ''))}"
    if any(step.get("outcome") == "depends" and step.get("rule") == "policy:call" for step in steps):
        return _ALLOWED_SO_FAR
    for step in steps:
        if step.get("outcome") == "depends" and step.get("rule") == "tool:approval":
            return f"Allowed, once it is approved: {line(step['fact'])}."
    return "Allowed: no rule refuses it."


_COLUMNS = ("rule", "layer", "fact", "source")

_MARKS = {"holds": "✓ holds", "fails": "✗ fails", "depends": "? depends", "not reached": "· not reached"}
"""`depends`: on the token or the arguments of a call; without the call it neither holds nor fails."""

_ALLOWED_SO_FAR = "Allowed, if the call's arguments are: every rule that does not look at them holds."
