"""`servers`, `tools` and `history`: what there is for this caller, and what changed of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.arguments import type_label
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import clean, line, moment, review_title
from pegboard.core.names import ServerName
from pegboard.core.text import sentence

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient

EraOption = Annotated[
    str, typer.Option("--era", help="MCP revision to speak: auto, modern (2026-07-28) or legacy (2025-11-25).")
]


@with_options
def servers(
    options: Options,
    server: Annotated[
        str | None, typer.Argument(metavar="[NS/NAME]", help="One server: all that you may know of it.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="Find servers by words in name, title, tools and description, usable or not."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also servers that you may not use.")] = False,
    owner: Annotated[str | None, typer.Option("--owner", metavar="TEAM", help="Only this team's.")] = None,
    lifecycle: Annotated[
        str | None,
        typer.Option("--lifecycle", help="Only: draft, 'in review', approved, live, deprecated or retired."),
    ] = None,
) -> None:
    """List the servers you may use from here, find others, or look at one.

    \b
    Example:
      pegboard servers --as ana
      pegboard servers --as ana --surface chat
      pegboard servers --as ana --search revenue
      pegboard servers prod/presto --as ana
    """
    if server is not None:
        _one(options, server_name(server), chosen=any((search, every, owner, lifecycle)))
        return
    wide = every or search is not None
    everything = "true" if wide else None
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        found = hub.every("servers", "servers", all=everything, q=search, owner=owner, lifecycle=lifecycle)
    if options.as_json:
        render.document({"servers": found})
    elif not found:
        _none(options, wide or bool(owner or lifecycle))
    elif wide:
        render.table(
            ("server", "lifecycle", "status", "owner", "version", "for you", "description"), map(_wide, found)
        )
    else:
        columns = ("server", "description", "owner", "support_channel")
        rows = [[*(each.get(name, "") for name in columns), _state(each), _tool_names(each)] for each in found]
        render.table(("server", "description", "owner", "support", "status", "tools"), rows)


def _none(options: Options, asked: bool) -> None:
    if asked:
        render.text("No server that you may know of fits.")
        return
    render.text(f"No server is open to {options.person or 'you'} from {options.surface or 'cli'}.")
    render.hint("What is missing, and whom to ask: pegboard explain --server NAMESPACE/NAME" + options.as_arguments())


def _one(options: Options, name: ServerName, *, chosen: bool) -> None:
    if chosen:
        raise Failure.usage("A server's name and a search exclude each other.", "Leave one of them out.")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        try:
            found = hub.get(f"servers/{name}")
        except Failure as failure:
            if failure.error["code"] == "unknown_server":
                raise hub.no_such_server(name) from failure
            raise
    if options.as_json:
        render.document(found)
        return
    title = line(found.get("title") or "")
    render.text(line(found.get("server", "")) + (f": {title}" if title else ""))
    render.text("\n".join(f"  {label:<12}{line(value)}" for label, value in _facts(found) if value))
    if not (found.get("you") or {}).get("usable") and not found.get("out_of_reach"):
        render.hint(f"Why it is not open: pegboard explain --server {name}{options.as_arguments()}")


def _facts(server: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is shown of one server, in order; each with its label."""
    granted, you = server.get("granted") or {}, server.get("you") or {}
    why = server.get("lifecycle_why")
    yield "", str(server.get("description", ""))
    yield "lifecycle", str(server.get("lifecycle", "")) + (f": {why}" if why else "")
    yield "status", _status(server)
    yield "owner", f"{server.get('owner', '')}, {server.get('support_channel', '')}"
    yield "release", _version(server)
    yield "sensitivity", str(server.get("sensitivity", ""))
    yield "groups", ", ".join(granted.get("groups") or ("none",))
    yield "surfaces", ", ".join(granted.get("surfaces") or ("none",))
    yield (
        "reviews",
        ", ".join(f"{review_title(each.get('kind'))} {each.get('state')}" for each in server.get("reviews") or ()),
    )
    yield "endpoint", str(server.get("resource_url", ""))
    yield "links", ", ".join(f"{name} {url}" for name, url in (server.get("links") or {}).items())
    why_not = server.get("out_of_reach")
    closed = "not open from here" + (f": it is {why_not}" if why_not else "")
    yield "for you", "open from here" if you.get("usable") else closed


def _wide(server: Mapping[str, Any]) -> list[Any]:
    return [
        server.get("server", ""),
        _deprecation(server) or server.get("lifecycle", ""),
        _status(server),
        server.get("owner", ""),
        server.get("semver", "") or "none",
        "open" if server.get("usable") else "not open",
        server.get("description", ""),
    ]


def _version(server: Mapping[str, Any]) -> str:
    digest = str(server.get("release") or "")
    return f"{server.get('semver', '')} ({digest[:12]})" if digest else "none"


@with_options
def tools(
    options: Options,
    server: Annotated[
        str | None, typer.Argument(metavar="NS/NAME", help="The server, for example prod/presto.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Those of all servers, as the registry has them.")] = False,
    era: EraOption = "auto",
) -> None:
    """List the tools you may use on a server with their arguments, or on all servers.

    \b
    Example:
      pegboard tools prod/presto --as ana
      pegboard tools --all --as ana
    """
    if every:
        _all_tools(options, server)
        return
    if server is None:
        raise Failure.usage("Missing argument 'NS/NAME'.", "Name a server, or use --all for the tools of all.")
    name, chosen = server_name(server), era_named(era)
    from pegboard.cli.client import HubClient
    from pegboard.cli.mcp_client import Session, converse

    async def talk(session: Session) -> list[dict[str, Any]]:
        return await session.tools()

    with HubClient(options) as hub:
        found = hub.with_server(name, lambda token: converse(token, chosen, talk))
        record = _record(hub, name)
    if options.as_json:
        said = {each: record.get(each, "") for each in ("lifecycle", "lifecycle_why")}
        render.document({"server": str(name), **said, "tools": found})
        return
    _tell_leaving([{**record, "server": str(name)}])
    if not found:
        render.text(f"{name} has no tool for {options.person or 'you'} from {options.surface or 'cli'}.")
    else:
        render.text("\n\n".join(_tool_text(tool) for tool in found))


def _record(hub: HubClient, name: ServerName) -> Mapping[str, Any]:
    """What the hub says of a server; nothing where it does not say."""
    try:
        return hub.record(name) or {}
    except Failure:  # the tools are there all the same
        return {}


def _tell_leaving(listed: Sequence[Mapping[str, Any]]) -> None:
    """Say of each server in a list that is deprecated that it is, and why."""
    for name, leaving in {line(each.get("server", "")): _deprecation(each) for each in listed}.items():
        if leaving:
            render.hint(f"{name} is {leaving}.")


def _all_tools(options: Options, server: str | None) -> None:
    if server is not None:
        raise Failure.usage("A server's name and --all exclude each other.", "Leave one of them out.")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        found = hub.every("me/tools", "tools")
    if options.as_json:
        render.document({"tools": found})
    elif not found:
        render.text(f"No tool is open to {options.person or 'you'} from {options.surface or 'cli'}.")
    else:
        rows = [(each.get("server", ""), _marked(each), _first_line(each.get("description", ""))) for each in found]
        render.table(("server", "tool", "what it does"), rows)
        _tell_leaving(found)


def _marked(tool: Mapping[str, Any]) -> str:
    return line(tool.get("name", "")) + (" (stopped)" if tool.get("stopped") else "")


def _first_line(text: Any) -> str:
    """The first line of a description: a docstring says there what it is about."""
    return next((line(each) for each in clean(text).splitlines() if each.strip()), "")


LONGEST_VALUE = 40
"""Characters of a value in the history."""


@with_options
def history(
    options: Options,
    server: Annotated[str, typer.Argument(metavar="NS/NAME", help="The server, for example prod/presto.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many changes at most.")] = 20,
) -> None:
    """Show who changed what of a server, and why; the newest first. Times are UTC.

    Who is neither of its owners nor a reviewer, operator or of `security` is told what everybody may read, and that
    it is shortened.

    \b
    Example:
      pegboard history prod/presto --as pat
    """
    name = server_name(server)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        try:
            found, answer = hub.every_of(f"servers/{name}/history", "entries", most=limit)
        except Failure as failure:
            if failure.error["code"] == "unknown_server":
                raise hub.no_such_server(name) from failure
            raise
    if options.as_json:
        render.document({"server": str(name), "entries": found, "shortened": answer.get("shortened", False)})
        return
    rows = [
        (_moment(each.get("at")), each.get("actor", ""), _action(each), _fields(each), each.get("why") or "")
        for each in found
    ]
    render.table(("time (UTC)", "who", "what", "before → after", "why"), rows)
    if answer.get("shortened"):
        render.hint("This is what everybody may read: the rest is for its owners, reviewers, operators and security.")


def _action(entry: Mapping[str, Any]) -> str:
    return str(entry.get("action", "")).replace("_", " ")


def _fields(entry: Mapping[str, Any]) -> str:
    """What changed, a line for each field."""
    from pegboard.core.changed import told

    fields = {str(each.get("field", "")): (each.get("before"), each.get("after")) for each in entry.get("fields", ())}
    return "\n".join(f"{line(each.field)}: {_values(each.gone)} → {_values(each.new)}" for each in told(fields))


def _values(lines: Sequence[str]) -> str:
    """Values on one line, shortened: --json has them whole."""
    return _shortened(", ".join(_shortened(line(each), LONGEST_VALUE) for each in lines), 2 * LONGEST_VALUE) or "none"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _moment(at_ms: Any) -> str:
    if not isinstance(at_ms, int):
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def server_name(given: str) -> ServerName:
    """The server named on the command line.

    Raises:
        Failure: wrong usage; the text is not a server's name.
    """
    try:
        return ServerName.parse(given)
    except ValueError as error:
        raise Failure.usage(sentence(str(error))) from error


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


def _state(server: Mapping[str, Any]) -> str:
    """How a server does, and that it is to be left."""
    return "; ".join(filter(None, (_status(server), _deprecation(server))))


def _deprecation(server: Mapping[str, Any]) -> str:
    """That a server is deprecated, why, until when it is there and what to use instead; empty of another."""
    if server.get("lifecycle") != "deprecated":
        return ""
    ends = f"closes on {moment(server['ends_at'])[:10]}" if server.get("ends_at") else ""
    instead = f"use {server['successor']} instead" if server.get("successor") else ""
    said = (line(each) for each in (server.get("lifecycle_why", ""), ends, instead) if each)
    return ": ".join(filter(None, ("deprecated", "; ".join(said))))


def _since(server: Mapping[str, Any]) -> str:
    at = server.get("status_since")
    return f" since {datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC" if isinstance(at, int) else ""


def _tool_names(server: Mapping[str, Any]) -> str:
    return ", ".join(map(_marked, server.get("tools", ())))


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
