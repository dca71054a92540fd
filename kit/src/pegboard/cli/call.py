"""`call`: one governed tool call."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.arguments import parse_json, parse_pairs
from pegboard.cli.catalogue import EraOption, era_named, server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.pending import PENDING, Pending, wait_for
from pegboard.cli.text import line
from pegboard.cli.there import NoBrowserOption, somebody_is_here
from pegboard.cli.verbatim import visible
from pegboard.core.approval import APPROVAL_KEY
from pegboard.core.names import ServerName
from pegboard.core.notice import notice_in

if TYPE_CHECKING:
    from pegboard.cli.mcp_client import Era


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
    wait: Annotated[
        bool, typer.Option("--wait", help="Where a person must say yes first, wait for it and then go on.")
    ] = False,
    no_browser: NoBrowserOption = False,
) -> None:
    """Call a tool and print what it answers.

    Where a person must say yes to the call first, the exit status is 4 and nothing has run: the same command again
    goes on once they have. With --wait it waits, and goes on by itself. They answer on a page, never here. What a
    tool asks of you (a confirmation) is asked at the terminal; where nobody sits there it waits on a page too, and
    there is no option that says yes beforehand.

    \b
    Example:
      pegboard call prod/presto list_tables --as ana
      pegboard call prod/presto run_query --as ana --arg sql='SELECT carrier, count(*) FROM flights GROUP BY 1'
      echo '{"text": "hello"}' | pegboard call dev/scratch echo --as sam --json-args -
      pegboard call prod/presto drop_tables --as ana --arg tables='["old_1", "old_2"]' --wait
    """
    name, chosen = server_name(server), era_named(era)
    if arg and json_args is not None:
        raise Failure.usage("--arg and --json-args exclude each other.", "Use one of them.")
    whole = None if json_args is None else parse_json(sys.stdin.read() if json_args == "-" else json_args)
    made = _Made(options, name, tool, arg or [], whole, chosen, wait, not no_browser)
    try:
        result = _until_run(made)
    except Failure as failure:
        if failure.refused and failure.status is ExitStatus.DENIED and failure.error["code"] not in ANSWERS:
            explain = f"pegboard explain --server {name} --tool {shlex.quote(tool)}{options.as_arguments()}"
            failure.hints = (f"Rule by rule: {explain}{_repeated(made)}",)
        raise
    except KeyboardInterrupt:
        if made.pending is not None:
            for told in made.pending.left(options, made.repeat()):
                render.hint(told)
        raise
    _show(options, name, tool, result)


ANSWERS = frozenset({"approval_rejected", "approval_expired", "approval_withdrawn", "approval_claimed"})
"""Codes of what people decided: no rule of access explains them."""

MARGIN_S = 90.0
"""Seconds of a token's life that are left for what a call still has to do."""


@dataclass(slots=True)
class _Made:
    """A call as it was asked for, and what becomes of it.

    Attributes:
        whole: its arguments as one object; None where they came in `pairs`.
        waits: whether to wait for people.
        browser: whether a browser may be opened.
        sent: its arguments, as soon as they are known, whatever then comes.
        pending: what it waits for, once that is known.
    """

    options: Options
    server: ServerName
    tool: str
    pairs: list[str]
    whole: dict[str, Any] | None
    era: Era
    waits: bool
    browser: bool
    sent: dict[str, Any] = field(default_factory=dict)
    pending: Pending | None = None

    def repeat(self) -> str:
        """The command line that makes the same call."""
        command = f"pegboard call {self.server} {shlex.quote(self.tool)}{self.options.as_arguments()}"
        return command + _repeated(self)


def _until_run(made: _Made) -> dict[str, Any]:
    """The result of the call; where a person must say yes to it and `waits` says so, once they have.

    Raises:
        Failure: it was refused, it failed on the way, or it waits and shall not be waited for.
    """
    while True:
        try:
            return _once(made)
        except Failure as failure:
            pending = Pending.read(failure.details.get("approval"), made.options.url) or made.pending
            failure.details = {"approval": pending.as_json()} if pending else {}
            if failure.error["code"] != PENDING:
                raise
            # What a server calls pending and names nothing of is no more than its word: nothing can be waited for.
            if pending is None:
                raise
            if not made.waits:
                # The server's words are for models.
                failure.headline = (
                    f"{made.server} {made.tool} has not run: a person must say yes to exactly this call."
                )
                failure.hints = pending.hints(made.options, made.repeat())
                raise
            known, made.pending = made.pending, pending
            if known is None or known.ids[0] not in pending.ids:
                _announce(made, pending)
            _wait(made, pending)


def _announce(made: _Made, pending: Pending) -> None:
    from pegboard.cli.login.browser import has_browser, open_page

    who = f" for {pending.asks}" if pending.asks else ""
    until = f", until {pending.until} UTC" if pending.until else ""
    render.hint(f"Waiting{who}{until}: {pending.page}")
    if pending.yours and made.browser and somebody_is_here() and has_browser(os.environ):
        open_page(pending.page)


def _wait(made: _Made, pending: Pending) -> None:
    from pegboard.cli.client import HubClient

    with HubClient(made.options) as hub:
        wait_for(pending, lambda request: hub.get(f"approvals/{request}"))


def _once(made: _Made) -> dict[str, Any]:
    """The result of one call."""
    from pegboard.cli.asking import AtTheTerminal
    from pegboard.cli.client import HubClient
    from pegboard.cli.http import Token
    from pegboard.cli.mcp_client import Session, converse

    async def talk(session: Session) -> dict[str, Any]:
        if made.whole is not None:
            return await session.call(made.tool, made.whole)
        listed = {each["name"]: each.get("inputSchema", {}) for each in await session.tools()}
        made.sent.update(parse_pairs(made.pairs, listed.get(made.tool)))
        return await session.call(made.tool, made.sent)

    def use(token: Token) -> dict[str, Any]:
        ends = time.time() + float(token.answer.get("expires_in", 0)) - MARGIN_S
        person = AtTheTerminal(
            made.options.url,
            f"{made.server} {made.tool}",
            waits=made.waits,
            browser=made.browser,
            patience=lambda: time.time() < ends,
        )
        try:
            return converse(token, made.era, talk, person if somebody_is_here() else None)
        finally:
            made.pending = person.pending or made.pending

    with HubClient(made.options) as hub:
        return hub.with_server(made.server, use)


def _repeated(made: _Made) -> str:
    """The part of a command line that repeats a call's arguments for `explain`, which knows no schema."""
    sent = made.sent or made.whole
    if not sent or parse_pairs(made.pairs, None) == sent:
        return "".join(f" --arg {shlex.quote(pair)}" for pair in made.pairs)
    return f" --json-args {shlex.quote(json.dumps(sent))}"


def _show(options: Options, name: ServerName, tool: str, result: dict[str, Any]) -> None:
    if options.as_json:
        render.document({"server": str(name), "tool": tool, "result": result})
    if told := notice_in(result.get("_meta")):
        render.hint(f"{name}: {line(told)}")
    if result.get("isError"):
        for block in result.get("content") or ():
            # The SDK says which tool it was; the person who called it knows.
            said = render.content_block(block).removeprefix(f"Error executing tool {tool}: ")
            render.hint(f"the tool failed: {said}")
        raise typer.Exit(ExitStatus.FAILED)
    if not options.as_json:
        render.tool_result(result)
        for told in _left_out(result):
            render.hint(told)


def _left_out(result: dict[str, Any]) -> Iterator[str]:
    """What of a batch did not run, and why; beside the result, which says only what did."""
    meta = (result.get("_meta") or {}).get(APPROVAL_KEY)
    left_out = meta.get("left_out") if isinstance(meta, dict) else None
    for each in left_out if isinstance(left_out, list) else ():
        if isinstance(each, dict):
            why = f": {line(each['reason'])}" if each.get("reason") else ""
            yield f"left out: {visible(json.dumps(each.get('element')))}, {line(each.get('state', ''))}{why}"
