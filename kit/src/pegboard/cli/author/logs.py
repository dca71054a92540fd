"""`pegboard logs`: what a server's replicas wrote, found by release, replica, words or a request's id."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.author.releases import ServerArgument, about, server_named
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.patiently import Patiently
from pegboard.cli.text import line

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient

EVERY_S = 1.0
"""Seconds between two looks with --follow."""

MOST = 1000
"""Lines that are given at once."""

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@with_options
def logs(
    options: Options,
    server: ServerArgument,
    follows: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print what comes.")] = False,
    release: Annotated[str | None, typer.Option("--release", help="Of this release: its digest's beginning.")] = None,
    replica: Annotated[str | None, typer.Option("--replica", help="Of this replica.")] = None,
    grep: Annotated[str | None, typer.Option("--grep", help="Lines with these words.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", help="Of one request, as a refusal or a result names it.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From 30s, 10m, 4h or 2d ago.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="So many lines at most.")] = 100,
) -> None:
    """Show a server's log: its own output, and every refusal with the reason that its caller was not told.

    For those who own the server. With --json, and with --follow and --json, each line is one JSON document.

    \b
    Examples:
      pegboard logs dev/weather --follow
      pegboard logs prod/presto --since 1h --grep "out of memory"
      pegboard logs prod/presto --request-id 6f0c2d1e
    """
    name = server_named(server)
    asked = {"release": release, "replica": replica, "q": grep, "request_id": request_id, "limit": str(limit)}
    asked["since"] = _ago(since) if since else None
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        answer = hub.get(f"servers/{name}/logs", **asked)
        lines = _lines(answer)
        if options.as_json and not follows:
            render.document(answer)
            return
        _print(lines, options)
        if not follows:
            if not lines:
                render.hint("No line fits.")
            elif answer.get("more"):
                render.hint(f"There are more: --limit, --since or --grep show others than these {len(lines)}.")
            return
        _follow(hub, f"servers/{name}/logs", asked, lines, options)


def _follow(
    hub: HubClient, path: str, asked: dict[str, str | None], lines: list[Mapping[str, Any]], options: Options
) -> None:
    """Print what comes. Each look begins at the time of the last line; those of that moment are told once."""
    last = str(lines[-1].get("at", "")) if lines else None
    seen = {_key(each) for each in lines if each.get("at") == last}
    patiently = Patiently()
    while True:
        time.sleep(EVERY_S)
        query = {**asked, "since": last or asked["since"], "limit": str(MOST)}
        answer = patiently.ask(partial(hub.get, path, **query))
        if answer is None:
            continue
        if last and answer.get("more"):
            render.hint(f"More than {MOST} lines came at once: those before the next are left out here.")
        found = _lines(answer)
        fresh = [each for each in found if _key(each) not in seen]
        _print(fresh, options)
        if found:
            last = str(found[-1].get("at", ""))
            seen = {_key(each) for each in found if each.get("at") == last}


def _lines(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in answer.get("lines") or () if isinstance(each, Mapping)]


def _key(each: Mapping[str, Any]) -> str:
    return json.dumps(each, sort_keys=True)


def _print(lines: list[Mapping[str, Any]], options: Options) -> None:
    for each in lines:
        if options.as_json:
            print(json.dumps(each))
            continue
        told = str(each.get("request_id") or "")
        request = f" [{line(told)}]" if told and told not in str(each.get("text", "")) else ""
        level = f" {line(each['level'])}" if each.get("level") else ""
        render.text(
            f"{line(each.get('at', ''))} {line(each.get('replica', ''))}{level} {line(each.get('text', ''))}{request}"
        )


def _ago(text: str) -> str:
    """So long ago, as RFC 3339."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        raise Failure.usage(f"--since {line(text)} is no time: write it as 30s, 10m, 4h or 2d.")
    at = datetime.fromtimestamp(time.time() - int(found[1]) * UNITS_S[found[2]], UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
