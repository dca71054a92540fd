"""`call`: one governed tool call."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.arguments import parse_json, parse_pairs
from pegboard.cli.catalogue import EraOption, era_named, server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.core.names import ServerName


@with_options
def call(
    options: Options,
    server: Annotated[str, typer.Argument(metavar="NS/NAME", help="The server, for example prod/presto.")],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool; see: pegboard tools NS/NAME.")],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="An argument, read by the tool's schema. Repeatable."),
    ] = None,
    json_args: Annotated[
        str | None,
        typer.Option("--json-args", metavar="JSON|-", help="All arguments as one JSON object; - is stdin."),
    ] = None,
    era: EraOption = "auto",
) -> None:
    """Call a tool and print what it answers.

    \b
    Example:
      pegboard call prod/presto list_tables --as ana
      pegboard call prod/presto run_query --as ana --arg sql='SELECT carrier, count(*) FROM flights GROUP BY 1'
      echo '{"text": "hello"}' | pegboard call dev/scratch echo --as sam --json-args -
    """
    name, chosen = server_name(server), era_named(era)
    if arg and json_args is not None:
        raise Failure.usage("--arg and --json-args exclude each other.", "Use one of them.")
    whole = None if json_args is None else parse_json(sys.stdin.read() if json_args == "-" else json_args)
    sent: dict[str, Any] = {}
    try:
        result = _call(options, name, tool, arg or [], whole, chosen, sent)
    except Failure as failure:
        if failure.refused and failure.status is ExitStatus.DENIED:
            explain = f"pegboard explain --server {name} --tool {shlex.quote(tool)}{options.as_arguments()}"
            failure.hints = (f"Rule by rule: {explain}{_repeated(arg or [], sent or whole)}",)
        raise
    _show(options, name, tool, result)


def _repeated(pairs: list[str], sent: dict[str, Any] | None) -> str:
    """The part of a command line that repeats a call's arguments for `explain`, which knows no schema."""
    if not sent or parse_pairs(pairs, None) == sent:
        return "".join(f" --arg {shlex.quote(pair)}" for pair in pairs)
    return f" --json-args {shlex.quote(json.dumps(sent))}"


def _call(
    options: Options,
    name: ServerName,
    tool: str,
    pairs: list[str],
    whole: dict[str, Any] | None,
    era: Any,
    sent: dict[str, Any],
) -> dict[str, Any]:
    """The result of the call. `sent` is filled with its arguments as soon as they are known, whatever then comes."""
    from pegboard.cli.client import HubClient
    from pegboard.cli.mcp_client import Session, converse

    async def talk(session: Session) -> dict[str, Any]:
        if whole is not None:
            return await session.call(tool, whole)
        listed = {each["name"]: each.get("inputSchema", {}) for each in await session.tools()}
        sent.update(parse_pairs(pairs, listed.get(tool)))
        return await session.call(tool, sent)

    with HubClient(options) as hub:
        return hub.with_server(name, lambda token: converse(token, era, talk))


def _show(options: Options, name: ServerName, tool: str, result: dict[str, Any]) -> None:
    if options.as_json:
        render.document({"server": str(name), "tool": tool, "result": result})
    if result.get("isError"):
        for block in result.get("content") or ():
            # The SDK says which tool it was; the person who called it knows.
            said = render.content_block(block).removeprefix(f"Error executing tool {tool}: ")
            render.hint(f"the tool failed: {said}")
        raise typer.Exit(ExitStatus.FAILED)
    if not options.as_json:
        render.tool_result(result)
