"""`ledger list` and `ledger show`: what was called, by whom, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.plugins import PluginGroup
from pegboard.cli.text import line

GROUP = "pegboard.commands.ledger"
"""Entry points that add commands to this group, as `pegboard.commands` does to the command itself."""


class LedgerGroup(PluginGroup):
    """The ledger's commands, followed by those of other distributions."""

    entry_points = GROUP


ledger = typer.Typer(
    name="ledger",
    cls=LedgerGroup,
    help="Look at the calls that were made: your own, and those on servers your team owns. Times are UTC.",
    rich_markup_mode=None,
)


@ledger.command("list")
@with_options
def list_calls(
    options: Options,
    person: Annotated[str | None, typer.Option("--person", help="Calls of this person or service.")] = None,
    server: Annotated[str | None, typer.Option("--server", metavar="NS/NAME", help="Calls on this server.")] = None,
    tool: Annotated[str | None, typer.Option("--tool", help="Calls of this tool.")] = None,
    decision: Annotated[str | None, typer.Option("--decision", help="allowed or denied.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Decided by: edge or server.")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help="ok, tool_error, crashed, cancelled, input_required, running, unknown (nobody can say) or denied.",
        ),
    ] = None,
    code: Annotated[str | None, typer.Option("--code", help="Refused with this code.")] = None,
    called_from: Annotated[
        str | None, typer.Option("--called-from", metavar="SURFACE", help="Calls made from this surface.")
    ] = None,
    acted_by: Annotated[
        str | None, typer.Option("--acted-by", metavar="ID", help="Calls that this chat or bot made for somebody.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Begun then or later, as 2026-11-24T09:30.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Begun before, as 2026-11-25.")] = None,
    request_id: Annotated[str | None, typer.Option("--request-id", help="The edge's request id.")] = None,
    trace_id: Annotated[str | None, typer.Option("--trace-id", help="The W3C trace id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where the page before ended.")] = None,
) -> None:
    """List calls, newest first.

    \b
    Example:
      pegboard ledger list --as pat --server prod/presto --decision denied
      pegboard ledger list --as ana --since 2026-11-24 --json
    """
    asked = {
        "person": person,
        "server": server,
        "tool": tool,
        "decision": decision,
        "layer": layer,
        "status": status,
        "code": code,
        "surface": called_from,
        "act": acted_by,
        "since": since,
        "until": until,
        "request_id": request_id,
        "trace_id": trace_id,
        "limit": str(limit),
        "cursor": cursor,
    }
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        answer = hub.get("calls", **asked)
    if options.as_json:
        render.document(answer)
        return
    calls = answer.get("calls", [])
    if calls:
        heads = ("time (UTC)", "who", "called", "decision", "took", "id")
        render.table(heads, (_row(call) for call in calls), right=frozenset({4}))
    render.hint(_summary(answer.get("found", {}), shown=len(calls)))
    if answer.get("next"):
        render.hint(f"Older ones: the same command with --cursor {line(answer['next'])}")


@ledger.command("show")
@with_options
def show_call(
    options: Options,
    call: Annotated[str, typer.Argument(metavar="ID", help="The call's id, as `ledger list` shows it.")],
    server: Annotated[
        str | None, typer.Option("--server", metavar="NS/NAME", help="Where calls of several servers have the id.")
    ] = None,
) -> None:
    """Show one call's whole life: asked, decided, run, delivered.

    \b
    Example:
      pegboard ledger show 4bf92f3577b34da6a3ce929d0e0e4736 --as ana
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        try:
            life = hub.get(f"calls/{quote(call, safe='')}", server=server)
        except Failure as failure:
            if failure.error["code"] in ("unknown_call", "ambiguous_call"):
                # It is no refusal: nothing of that name is there, or too much.
                raise Failure(ExitStatus.FAILED, failure.error) from failure
            raise
    if options.as_json:
        render.document(life)
        return
    for label, value in _facts(life):
        render.text(f"{label:<12}{line(value)}")


def _row(call: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _moment(call.get("at")),
        line(_who(call)),
        line(f"{call.get('server') or 'an unknown server'} {call.get('tool', '')}"),
        line(_decision(call)),
        _duration(call.get("duration_ms")),
        line(call.get("id", "")),
    )


def _who(call: Mapping[str, Any]) -> str:
    """Whose call it was, and who acted for them."""
    person = str(call.get("person", ""))
    return f"{person} by {call['act']}" if call.get("act") else person


def _decision(call: Mapping[str, Any]) -> str:
    if call.get("decision") == "denied":
        return f"denied by {call.get('layer', '')}: {call.get('reason', '')}"
    return f"allowed, {call.get('status', '')}".replace("_", " ")


def _facts(life: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A call's life in its order; what nobody noted is left out."""
    steps = life.get("steps_ms") or {}
    result = life.get("result_bytes")
    rows = (
        ("asked", _moment(life.get("at"), exact=True)),
        ("who", f"{life.get('person', '')} from {life.get('surface', '')} {life.get('channel') or ''}"),
        ("acted", life.get("act") or ""),
        ("called", f"{life.get('server') or 'an unknown server'} {life.get('tool') or life.get('method', '')}"),
        ("release", str(life.get("release", ""))[:12]),
        ("request", life.get("request_id", "")),
        ("trace", life.get("trace_id", "")),
        ("decision", _decision(life)),
        ("detail", life.get("detail", "")),
        ("approval", ", ".join(life.get("approval") or ())),
        ("policy", f"{life['policy']}, version {life.get('policy_version', '')[:12]}" if life.get("policy") else ""),
        ("steps", ", ".join(f"{name} {took:.2f} ms" for name, took in steps.items())),
        ("ended", _moment(life.get("ended_at"), exact=True)),
        ("took", _duration(life.get("duration_ms"))),
        ("error", life.get("error_type", "")),
        ("result", "" if result is None else f"{result:,} bytes"),
        ("delivered", _moment(life.get("received_at"), exact=True)),
        ("outcome in", _moment(life.get("outcome_received_at"), exact=True)),
        ("no outcome", life.get("unfinished", "")),
    )
    return ((label, str(value)) for label, value in rows if str(value or "").strip())


def _summary(found: Mapping[str, Any], shown: int) -> str:
    count = int(found.get("count", 0))
    if not count and found.get("back_to_ms") is None:
        return "No call fits."
    words = f"{shown} shown of {count:,} found: {found.get('denied', 0):,} denied, "
    words += f"{found.get('unfinished', 0):,} without an outcome."
    if found.get("back_to_ms") is not None:
        words += f" Only the newest were counted, back to {_moment(found['back_to_ms'])}."
    return words


def _moment(at_ms: Any, exact: bool = False) -> str:
    """A time in milliseconds since the epoch, in UTC; empty where there is none."""
    if not isinstance(at_ms, int):
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S" + (".%f" if exact else ""))[:23]


def _duration(took_ms: Any) -> str:
    return f"{took_ms:,.1f} ms" if isinstance(took_ms, int | float) else ""
