"""The `pegboard` command: its subcommands, and how it ends."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.main import get_command

from pegboard.cli import (
    approvals,
    call,
    catalogue,
    clients,
    explain,
    identity,
    ledger,
    render,
    required,
    reviews,
    rules,
    stops,
)
from pegboard.cli.author.deployment import deployment, deprecate, pause, promote, restart, retire, rollback, scale
from pegboard.cli.author.logs import logs
from pegboard.cli.author.new import new
from pegboard.cli.author.publishers import publishers
from pegboard.cli.author.releases import releases
from pegboard.cli.author.submit import submit
from pegboard.cli.author.withdraw import withdraw
from pegboard.cli.connect.command import connect
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.login import commands as login
from pegboard.cli.plugins import PluginGroup
from pegboard.cli.registry.command import registry
from pegboard.core.errors import PegboardError, Unreachable

# Plain help: rich's would cost three times the whole budget of `pegboard --help`.
app = typer.Typer(
    name="pegboard",
    cls=PluginGroup,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    login.login,
    login.logout,
    identity.whoami,
    catalogue.servers,
    catalogue.tools,
    catalogue.history,
    call.call,
    connect,
    identity.token,
    explain.explain,
    new,
    submit,
    releases,
    withdraw,
    publishers,
    deployment,
    promote,
    rollback,
    pause,
    scale,
    restart,
    logs,
    deprecate,
    retire,
    clients.clients,
    stops.stop,
    stops.resume,
    stops.stops,
):
    app.command()(command)
app.add_typer(ledger.ledger)
app.add_typer(registry)
for command in (required.require, required.lift, required.required):
    approvals.approvals.command()(command)
app.add_typer(approvals.approvals)
app.add_typer(reviews.reviews)
app.add_typer(rules.rules)


def _show_version(asked: bool) -> None:
    if asked:
        render.text(f"pegboard {version('pegboard')}")
        raise typer.Exit


@app.callback(epilog="Exit status: " + "; ".join(f"{status.value} {status.meaning}" for status in ExitStatus) + ".")
def _pegboard(
    shows_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Use a company's MCP servers: find them, call their tools, and see why a call was refused."""


def run(given: Sequence[str]) -> int:
    """Run the command line and return its status."""
    as_json = "--json" in given
    try:
        status = get_command(app).main(list(given) or ["--help"], prog_name="pegboard", standalone_mode=False)
        return int(status or 0)
    except Failure as failure:
        render.failure(failure, as_json)
        if os.environ.get("PEGBOARD_DEBUG"):
            traceback.print_exc()
        return failure.status
    except typer.TyperException as error:
        render.failure(Failure.usage(error.format_message(), _help_hint(error)), as_json)
        return ExitStatus.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return ExitStatus.INTERRUPTED
    except PegboardError as error:
        away = isinstance(error, Unreachable)
        status, code = (ExitStatus.UNREACHABLE, "unreachable") if away else (ExitStatus.FAILED, "failed")
        render.failure(Failure.here(status, code, f"{error}"), as_json)
        return status
    except Exception as error:  # the last resort: a trace helps nobody who did not ask for it
        return _unexpected(error, as_json)


def _help_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path if context else 'pegboard'} --help"


def _unexpected(error: Exception, as_json: bool) -> int:
    if os.environ.get("PEGBOARD_DEBUG"):
        traceback.print_exc()
    message = f"Unexpected: {type(error).__name__}: {error}."
    mend = "Run it again with PEGBOARD_DEBUG=1 for the trace."
    render.failure(Failure.here(ExitStatus.FAILED, "unexpected", message, mend), as_json)
    return ExitStatus.FAILED
