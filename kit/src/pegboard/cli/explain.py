"""`explain`: what a call would meet, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.catalogue import server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line


@with_options
def explain(
    options: Options,
    server: Annotated[str, typer.Option("--server", metavar="NS/NAME", help="The server to be explained.")],
    tool: Annotated[str | None, typer.Option("--tool", help="One tool of it; else the server as a whole.")] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Somebody else; for the server's owners and security only.")
    ] = None,
) -> None:
    """Say, rule by rule, whether a call would be allowed, and why.

    The exit status is 0 when it would be allowed and 3 when it would be denied.

    \b
    Example:
      pegboard explain --server prod/presto --tool get_revenue_metrics --as ana
      pegboard explain --server prod/presto --as pat --person gus
    """
    name = server_name(server)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        asked = {"tool": tool, "person": person, "surface": options.surface, "channel": options.channel}
        try:
            answer = hub.get("explain", server=str(name), **asked)
        except Failure as failure:
            if failure.error["code"] == "unknown_server":
                raise hub.no_such_server(name) from failure
            raise
    if options.as_json:
        render.document(answer)
    else:
        _show(answer, str(name))
    raise typer.Exit(ExitStatus.DONE if answer.get("allowed") is True else ExitStatus.DENIED)


def _show(answer: Mapping[str, Any], server: str) -> None:
    what = f"{server} {answer['tool']}" if answer.get("tool") else server
    render.text(line(f"{answer.get('person', '')} from {answer.get('surface', '')} → {what}"))
    print()
    rows = [(_mark(check), *(check.get(each, "") for each in _COLUMNS)) for check in answer.get("checks", ())]
    render.table(("", *_COLUMNS), rows)
    print()
    refusal = answer.get("refusal") or {}
    if answer.get("allowed") is True:
        open_rules = [row for row in rows if row[0] == _DEPENDS]
        render.text(_ALLOWED_SO_FAR if open_rules else "Allowed: every rule holds.")
        return
    render.text(f"Denied by the {line(refusal.get('layer', ''))}: {line(refusal.get('message', ''))}")
    to_do = line(refusal.get("what_to_do", ""))
    if to_do and to_do not in line(refusal.get("message", "")):
        render.text(to_do)


def _mark(check: Mapping[str, Any]) -> str:
    if check.get("holds") is not True:
        return "✗ fails"
    return _DEPENDS if str(check.get("fact", "")).startswith("depends on") else "✓ holds"


_COLUMNS = ("rule", "fact", "source")

_DEPENDS = "? depends"
"""A rule that reads a call's arguments: without a call it neither holds nor fails."""

_ALLOWED_SO_FAR = "Allowed, if the call's arguments are: every rule that does not look at them holds."
