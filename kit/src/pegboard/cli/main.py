"""The `pegboard` command: its subcommands, and how it ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer
from typer.main import get_command

from pegboard.cli import call, catalogue, explain, identity, render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.plugins import PluginGroup
from pegboard.core.errors import PegboardError

# Plain help: rich's would cost three times the whole budget of `pegboard --help`.
app = typer.Typer(name="pegboard", cls=PluginGroup, add_completion=False, rich_markup_mode=None)
for command in (catalogue.servers, catalogue.tools, call.call, identity.token, identity.whoami, explain.explain):
    app.command()(command)


@app.callback(epilog="Exit status: " + "; ".join(f"{status.value} {status.meaning}" for status in ExitStatus) + ".")
def _pegboard() -> None:
    """Use a company's MCP servers: find them, call their tools, and see why a call was refused."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status (`ExitStatus`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no tick mark shows a question mark beside the word, not a trace.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="replace")
    sys.exit(run(given))


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
        render.failure(Failure.here(ExitStatus.FAILED, "failed", f"{error}"), as_json)
        return ExitStatus.FAILED
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
