"""Commands that other distributions add to `pegboard`, through the entry-point group `pegboard.commands`.

An entry point names a function that typer can read, or a `typer.Typer` with several. It is imported when its command
runs or is asked for its help, and not before: `pegboard --help` reads only the first line of its docstring, or of its
`help`, out of its source.
"""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pegboard.cli.exit import ExitStatus, Failure

GROUP = "pegboard.commands"


class PluginGroup(TyperGroup):
    """The command's own subcommands, followed by those of other distributions.

    Attributes:
        entry_points: the entry-point group that others add to.
    """

    entry_points = GROUP

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in sorted(entry_points(group=self.entry_points)):
            # What the kit itself is called for cannot be taken over by something that happens to be installed.
            if entry.name not in self.commands:
                self.add_command(Deferred(entry))


class Deferred(TyperCommand):
    """A command known by name and summary; the real one takes over when arguments are to be read."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(name=entry.name, help=_summary(entry))
        self._entry = entry

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """The real command's context: the group invokes what the context belongs to."""
        return self.load().make_context(*args, **kwargs)

    @property
    def distribution(self) -> str:
        """The name of the distribution that adds the command."""
        return self._entry.dist.name if self._entry.dist else self._entry.module

    def load(self) -> Any:
        """The real command.

        Raises:
            Failure: it could not be imported.
        """
        try:
            function = self._entry.load()
        except (ImportError, AttributeError) as error:
            owner = self.distribution
            message = f"The command {self._entry.name}, which {owner} adds, does not load: {error}."
            raise Failure.here(ExitStatus.FAILED, "broken_plugin", message, f"Install {owner} again.") from error
        if isinstance(function, typer.Typer):
            return get_command(function)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(self._entry.name)(function)
        return get_command(app)


def _summary(entry: EntryPoint) -> str:
    """The first line of what the command says of itself, read without running its module."""
    try:
        found = importlib.util.find_spec(entry.module)
        tree = ast.parse(Path(found.origin).read_text(encoding="utf-8")) if found and found.origin else None
    except (ImportError, OSError, SyntaxError):
        tree = None
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [entry.attr]:
            return _help(node.value).partition("\n")[0]
    return ""


def _help(value: ast.expr) -> str:
    """The text of `help=…` in a call."""
    given = value.keywords if isinstance(value, ast.Call) else []
    return next((str(ast.literal_eval(each.value)) for each in given if each.arg == "help"), "")
