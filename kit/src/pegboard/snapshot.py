"""`pegboard snapshot [DIR]`: pin the tools of a server that somebody else wrote.

It starts the backend, as a release does, and so belongs into the project's own environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer
from mcp.shared.exceptions import MCPError

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus
from pegboard.cli.text import line
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, read_manifest
from pegboard.core.pins import FILE_NAME as PINS
from pegboard.core.pins import Difference, Pins, compare, read_pins
from pegboard.proxy.snapshot import take


def snapshot(
    project: Annotated[
        Path, typer.Argument(metavar="DIR", help=f"The project's folder, with {FILE_NAME}. Default: this one.")
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help=f"Write nothing; the exit status is 1 where {PINS} is not what there is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Pin the tools of a server that somebody else wrote, as its backend lists them now, in tools.pins.json.

    Only pinned tools are served, with the words that were pinned. Read the difference before you commit it: what a
    tool says of itself goes into the context of every model that may call it.

    \b
    Example:
      uv run pegboard snapshot
      uv run pegboard snapshot examples/foreign/shop --check
    """
    folder = project.resolve()
    try:
        before = read_pins(folder) if (folder / PINS).exists() else None
        pins = anyio.run(take, folder, read_manifest(folder))
    except (ConfigurationError, MCPError) as error:
        render.text(line(str(error)))
        raise typer.Exit(ExitStatus.FAILED) from error
    except TimeoutError as error:
        render.text("[proxy]: the backend does not list its tools in time; see start_s")
        raise typer.Exit(ExitStatus.FAILED) from error
    difference = compare(before or Pins(tools=()), pins.tools)
    words_changed = before is not None and before.instructions != pins.instructions
    if not check:
        (folder / PINS).write_text(pins.text(), encoding="utf-8")
    _show(difference, pins, words_changed, check, as_json)
    if check and (before is None or difference or words_changed):
        raise typer.Exit(ExitStatus.FAILED)


def _show(difference: Difference, pins: Pins, words_changed: bool, check: bool, as_json: bool) -> None:
    if as_json:
        changed = {name: list(what) for name, what in difference.changed.items()}
        document = {"tools": len(pins.tools), "changed": changed, "new": list(difference.new)}
        render.document({**document, "gone": list(difference.gone), "instructions_changed": words_changed})
        return
    for name in difference.new:
        render.text(f"+ {line(name)}")
    for name in difference.gone:
        render.text(f"- {line(name)}")
    for name, what in difference.changed.items():
        render.text(f"~ {line(name)}: {', '.join(what)}")
    if words_changed:
        render.text("~ instructions")
    same = not difference and not words_changed
    told = "as they were pinned" if same else "not as they were pinned" if check else f"pinned in {PINS}"
    render.hint(f"{len(pins.tools)} tool{'' if len(pins.tools) == 1 else 's'}, {told}.")
