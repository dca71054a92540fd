"""`pegboard publishers`: which services, as CI jobs are, submit releases of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

import typer

from pegboard.cli import render
from pegboard.cli.author.releases import ServerArgument, about, server_named
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line, moment
from pegboard.core.spiffe import is_spiffe_id

ACTIONS = ("list", "add", "remove")


@with_options
def publishers(
    options: Options,
    server: ServerArgument,
    action: Annotated[str, typer.Argument(metavar="[list|add|remove]", help="What to do. Default: list.")] = "list",
    service: Annotated[
        str | None,
        typer.Argument(metavar="[SPIFFE_ID]", help="The service's identity, as spiffe://example.org/ci/x."),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="add, remove: the reason, for the server's history.")] = "",
) -> None:
    """List the services that submit releases of a server, name one, or take it back. Its owners decide.

    \b
    Examples:
      pegboard publishers prod/presto
      pegboard publishers prod/presto add spiffe://example.org/ci/presto --why "merges to main"
      pegboard publishers prod/presto remove spiffe://example.org/ci/presto --why "it moved to another job"
    """
    name = server_named(server)
    if action not in ACTIONS:
        raise Failure.usage(f"{line(action)} is none of {', '.join(ACTIONS)}.")
    if (action == "list") != (service is None):
        raise Failure.usage("list takes no SPIFFE_ID." if service else f"{action} needs a SPIFFE_ID.")
    if service is not None and not is_spiffe_id(service):
        raise Failure.usage(f"{line(service)} is no SPIFFE ID; write it as spiffe://example.org/ci/presto.")
    if action != "list" and not why.strip():
        raise Failure.usage(f"{action} needs the reason.", 'Say it, for the server\'s history: --why "…"')
    from pegboard.cli.client import HubClient

    path = f"servers/{name}/publishers"
    with HubClient(options) as hub, about(hub, name):
        if action == "add":
            hub.post(path, {"service": service, "why": why})
        elif action == "remove":
            hub.delete(f"{path}?{urlencode({'service': service or '', 'why': why})}")
        found = hub.get(path)
    if options.as_json:
        render.document(found)
        return
    rows = [each for each in found.get("publishers") or () if isinstance(each, Mapping)]
    if not rows:
        render.hint(f"People of its owner's team alone submit {name}.")
        return
    heads = ("service", "why", "named by", "since")
    shown = [(r.get("service", ""), r.get("why", ""), r.get("named_by", ""), moment(r.get("at"))) for r in rows]
    render.table(heads, [tuple(line(cell) for cell in row) for row in shown])
