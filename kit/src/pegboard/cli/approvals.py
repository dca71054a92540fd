"""`approvals`: calls that wait for a person's yes. It shows and withdraws them; a person decides, in a browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pegboard.cli import render
from pegboard.cli.approval_words import body_of, event_words, facts_of, history_row, mine_row, waiting_row
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.pending import is_id, page_of
from pegboard.cli.text import line, moment
from pegboard.cli.there import OPENING_S, NoBrowserOption, go_on
from pegboard.cli.verbatim import fact, visible
from pegboard.core.approval import State

FIRST = "list"
"""The command that `pegboard approvals` alone is short for."""

LABEL, MOMENT = 14, 21
"""Columns of a fact's label, and of an event's time."""

MOST_WAITING = 200

WIDE = 120
"""Columns of a terminal that has room for a whole table."""


class ApprovalsGroup(TyperGroup):
    """A group that lists where nothing else is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, with `FIRST` before them where they name no command and ask for no help."""
        named = args and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [FIRST, *args])


approvals = typer.Typer(
    name="approvals",
    cls=ApprovalsGroup,
    help="Look at the calls that wait for a person's yes: for yours, and for somebody else's. Times are UTC.",
    rich_markup_mode=None,
)
"""Other files add commands with `@approvals.command(…)`, and `app.py` imports them."""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The request's id, as `approvals list` shows it.")]


@approvals.command("list")
@with_options
def list_approvals(
    options: Options,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST_WAITING, help="So many of each at most.")] = 20,
) -> None:
    """List what waits for your yes, first to expire first, and what you wait for, newest first.

    `pegboard approvals` alone does the same.

    \b
    Example:
      pegboard approvals
      pegboard approvals list --as pat --json
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        waiting = hub.get("approvals", whose="waiting", limit=str(limit))
        mine = hub.get("approvals", whose="mine", ahead="true", limit=str(limit))
    if options.as_json:
        names = (("waiting", waiting), ("mine", mine))
        render.document({name: answer.get("approvals", []) for name, answer in names})
        return
    for_you = waiting.get("approvals", [])
    by_you = [each for each in mine.get("approvals", []) if not each.get("waits_for_you")]
    if not for_you and not by_you:
        render.hint("Nothing waits for your yes, and you wait for nobody's.")
        return
    if for_you:
        render.text("Waits for your yes:\n")
        _table(("id", "expires", "asked by", "to run", "what would happen"), map(waiting_row, for_you))
    if by_you:
        render.text(("\n" if for_you else "") + "You wait for:\n")
        heads = ("id", "expires", "state", "to run", "who decides", "what would happen")
        _table(heads, map(mine_row, by_you))
    if for_you:
        render.hint(f"Read one: pegboard approvals show ID{options.as_arguments()}")
        render.hint(f"Answer:   {options.url}/approvals, in a browser")
    if waiting.get("next") or mine.get("next"):
        render.hint(f"There are more: {options.url}/approvals, or a higher --limit.")


@approvals.command("show")
@with_options
def show(options: Options, request: IdArgument) -> None:
    """Show one request: who asks for what, with all its arguments, what would happen, and what became of it.

    What others wrote stands behind bars. A character that would not show, or would move others, is named in its
    place, as <U+202E>.

    \b
    Example:
      pegboard approvals show 01k8wz3f6m --as pat
    """
    found = _found(options, request)
    if options.as_json:
        render.document(found)
        return
    for label, value in facts_of(found):
        for row in fact(label, line(value), LABEL):
            print(row)
    for row in body_of(found):
        print(row)
    print()
    for event in found.get("events") or ():
        for row in fact(moment(event.get("at")), event_words(event), MOMENT):
            print(row)
    page = page_of(options.url, str(found["id"]))
    if found.get("waits_for_you"):
        render.hint(f"Answer it in a browser: {page}")
    if found.get("state") == State.UNKNOWN:
        render.hint(f"Nobody can say whether it ran: look at what it would have changed. To ask again: {page}")


@approvals.command("open")
@with_options
def open_request(options: Options, request: IdArgument, no_browser: NoBrowserOption = False) -> None:
    """Open a request's page in a browser, and print its address.

    \b
    Example:
      pegboard approvals open 01k8wz3f6m
    """
    from pegboard.cli.login.browser import has_browser, open_page

    page = page_of(options.url, str(_found(options, request)["id"]))
    opens = not no_browser and has_browser(os.environ)
    if opens:
        open_page(page).join(OPENING_S)
    if options.as_json:
        render.document({"page": page, "opened": opens})
    else:
        render.text(page)


@approvals.command("approve")
@with_options
def approve(options: Options, request: IdArgument, no_browser: NoBrowserOption = False) -> None:
    """Open a request's page, where a person approves it. The exit status is 4: it waits for that.

    No command says yes: whoever holds your token, as an agent does, could say it to itself.

    \b
    Example:
      pegboard approvals approve 01k8wz3f6m
    """
    _decide_there(options, request, no_browser)


@approvals.command("reject")
@with_options
def reject(options: Options, request: IdArgument, no_browser: NoBrowserOption = False) -> None:
    """Open a request's page, where a person rejects it. The exit status is 4: it waits for that.

    What you asked for yourself you can take back here: `pegboard approvals withdraw`.

    \b
    Example:
      pegboard approvals reject 01k8wz3f6m
    """
    _decide_there(options, request, no_browser)


@approvals.command("withdraw")
@with_options
def withdraw(
    options: Options,
    requests: Annotated[list[str], typer.Argument(metavar="ID...", help="Requests of yours that did not run yet.")],
    why: Annotated[str, typer.Option("--why", help="The reason, for the history.")] = "",
) -> None:
    """Take back what you asked for: nobody can approve it any more, and what was approved does not run.

    \b
    Example:
      pegboard approvals withdraw 01k8wz3f6m --why "the wrong table"
    """
    for request in requests:
        _checked(request)
    from pegboard.cli.client import HubClient

    done: list[Mapping[str, Any]] = []
    with HubClient(options) as hub:
        for request in requests:
            try:
                done.append(hub.post(f"approvals/{request}/withdraw", {"why": why}))
            except Failure as failure:
                failure.details = {"withdrawn": [each.get("id") for each in done]}
                raise (_not_there(options, request) if failure.error["code"] == "not_found" else failure) from failure
            if not options.as_json:
                told = done[-1]
                render.text(f"Withdrawn: {line(told.get('id'))}, {line(told.get('server'))} {line(told.get('tool'))}")
    if options.as_json:
        render.document({"withdrawn": done})


@approvals.command("history")
@with_options
def history(
    options: Options,
    server: Annotated[str | None, typer.Option("--server", metavar="NS/NAME", help="Only of this server.")] = None,
    person: Annotated[str | None, typer.Option("--person", help="Only what this person asked for.")] = None,
    state: Annotated[str | None, typer.Option("--state", help=f"Only in this state: {', '.join(State)}.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="So many at most.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on where the page before ended.")] = None,
) -> None:
    """List requests that you may see, whatever became of them, newest first.

    \b
    Example:
      pegboard approvals history --server prod/presto --state rejected --as pat
    """
    if state is not None and state not in list(State):
        raise Failure.usage(f"--state {line(state)}: choose one of {', '.join(State)}.")
    from pegboard.cli.client import HubClient

    asked = {"server": server, "person": person, "state": state, "limit": str(limit), "cursor": cursor}
    with HubClient(options) as hub:
        answer = hub.get("approvals/history", **asked)
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("approvals", [])
    if not found:
        render.hint("No request that you may see fits.")
        return
    heads = ("asked for", "by", "to run", "state", "decided by", "id")
    render.table(heads, [history_row(each) for each in found])
    if answer.get("next"):
        render.hint(f"Older ones: the same command with --cursor {line(answer['next'])}")


def _decide_there(options: Options, request: str, no_browser: bool) -> NoReturn:
    found = _found(options, request)
    page = page_of(options.url, str(found["id"]))
    if found.get("state") != State.REQUESTED:
        message = f"It is {line(found.get('state', ''))} already; nothing waits there."
        raise Failure.here(ExitStatus.FAILED, "not_open", message, f"Look at it: {page}")
    message = "A person says yes or no in a browser, never by a command: an agent could type it, too."
    go_on(page, "decided_in_a_browser", message, no_browser)


def _found(options: Options, request: str) -> Mapping[str, Any]:
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        try:
            return hub.get(f"approvals/{_checked(request)}")
        except Failure as failure:
            raise (_not_there(options, request) if failure.error["code"] == "not_found" else failure) from failure


def _checked(request: str) -> str:
    if not is_id(request):
        raise Failure.usage(f"ID {visible(line(request))[:80]} is none of a request's.", "See: pegboard approvals")
    return request


def _not_there(options: Options, request: str) -> Failure:
    mend = f"Look for it: pegboard approvals history{options.as_arguments()}"
    return Failure.here(ExitStatus.DENIED, "not_found", f"There is no request {line(request)} here for you.", mend)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; where the terminal is too narrow for it, without its last column, so that ids stay whole."""
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < WIDE
    columns = len(heads) - 1 if narrow else len(heads)
    render.table(heads[:columns], [row[:columns] for row in rows])
