"""`servers` and `tools`: what there is for this caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from inspect import cleandoc
from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.arguments import type_label
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import clean, line
from pegboard.core.names import ServerName

EraOption = Annotated[
    str, typer.Option("--era", help="MCP revision to speak: auto, modern (2026-07-28) or legacy (2025-11-25).")
]


@with_options
def servers(options: Options) -> None:
    """List the servers you may use from here.

    \b
    Example:
      pegboard servers --as ana
      pegboard servers --as ana --surface chat
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        answer = hub.get("servers")
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("servers", [])
    if not found:
        render.text(f"No server is open to {options.person or 'you'} from {options.surface or 'cli'}.")
        render.hint(
            "What is missing, and whom to ask: pegboard explain --server NAMESPACE/NAME" + options.as_arguments()
        )
        return
    columns = ("server", "description", "owner", "support_channel", "status")
    rows = [[*(each.get(name, "") for name in columns[:-1]), _status(each), _tool_names(each)] for each in found]
    render.table(("server", "description", "owner", "support", "status", "tools"), rows)


@with_options
def tools(
    options: Options,
    server: Annotated[str, typer.Argument(metavar="NS/NAME", help="The server, for example prod/presto.")],
    era: EraOption = "auto",
) -> None:
    """List the tools you may use on a server, with their arguments.

    \b
    Example:
      pegboard tools prod/presto --as ana
    """
    name, chosen = server_name(server), era_named(era)
    from pegboard.cli.client import HubClient
    from pegboard.cli.mcp_client import Session, converse

    async def talk(session: Session) -> list[dict[str, Any]]:
        return await session.tools()

    with HubClient(options) as hub:
        found = hub.with_server(name, lambda token: converse(token, chosen, talk))
    if options.as_json:
        render.document({"server": str(name), "tools": found})
    elif not found:
        render.text(f"{name} has no tool for {options.person or 'you'} from {options.surface or 'cli'}.")
    else:
        render.text("\n\n".join(_tool_text(tool) for tool in found))


def server_name(given: str) -> ServerName:
    """The server named on the command line.

    Raises:
        Failure: wrong usage; the text is not a server's name.
    """
    try:
        return ServerName.parse(given)
    except ValueError as error:
        raise Failure.usage(f"{str(error)[0].upper()}{str(error)[1:]}.") from error


def era_named(given: str) -> Any:
    """The era named on the command line, one of `mcp_client.Era`; importing that takes longer than telling of a slip.

    Raises:
        Failure: wrong usage; no such era.
    """
    if given not in ("auto", "modern", "legacy"):
        raise Failure.usage(f"--era {given}: unknown; choose auto, modern or legacy.")
    return given


def _status(server: Mapping[str, Any]) -> str:
    stopped = line(server.get("stopped", ""))
    if stopped:
        return f"stopped: {stopped}"
    status, why = line(server.get("status", "")), line(server.get("status_why", ""))
    return f"{status}{_since(server)}: {why}" if why else status


def _since(server: Mapping[str, Any]) -> str:
    at = server.get("status_since")
    return f" since {datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC" if isinstance(at, int) else ""


def _tool_names(server: Mapping[str, Any]) -> str:
    return ", ".join(
        line(tool.get("name", "")) + (" (stopped)" if tool.get("stopped") else "") for tool in server.get("tools", ())
    )


def _tool_text(tool: Mapping[str, Any]) -> str:
    title = line(tool.get("title", ""))
    head = line(tool["name"]) + (f": {title}" if title else "")
    # Descriptions are docstrings: their later lines carry the indentation of the source.
    described = [f"  {each}".rstrip() for each in cleandoc(clean(tool.get("description", ""))).splitlines()]
    return "\n".join([head, *described, *_argument_lines(tool.get("inputSchema", {}))])


def _argument_lines(schema: Mapping[str, Any]) -> list[str]:
    properties = schema.get("properties", {})
    if not properties:
        return ["  Takes no arguments."]
    required = schema.get("required", ())
    rows = [
        (line(name), line(type_label(each, schema)), _need(name in required, each), line(each.get("description", "")))
        for name, each in properties.items()
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in (("  --arg " + row[0] + "=", *row[1:]) for row in rows)
    ]


def _need(required: bool, schema: Mapping[str, Any]) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return "optional" if default is None else f"default {line(json.dumps(default))}"
