"""The options of commands that other distributions add to `pegboard`, read from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.main import get_command

from docs.generate.markdown import code, table
from pegboard.cli.app import app
from pegboard.cli.plugins import Deferred


class Option(NamedTuple):
    """One option or argument of one command."""

    command: str
    name: str
    variable: str
    default: str
    meaning: str


def added_options() -> Iterator[Option]:
    """Every option, but hidden ones, of every command that is added, in the order of the command."""
    yield from _options(get_command(app), "")


def _options(group: Any, above: str) -> Iterator[Option]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _options(command, f"{above}{name} ")
        elif isinstance(command, Deferred):
            yield from _loaded(command.load(), f"{above}{name}")


def _loaded(command: Any, name: str) -> Iterator[Option]:
    for parameter in command.params:
        if not getattr(parameter, "hidden", False) and parameter.name != "help":
            yield _option(name, parameter)
    for below, each in getattr(command, "commands", {}).items():
        yield from _loaded(each, f"{name} {below}")


def _option(command: str, parameter: Any) -> Option:
    names = [*parameter.opts, *parameter.secondary_opts]
    name = ", ".join(names) if names[0].startswith("-") else parameter.name.upper()
    meaning, _, told = (parameter.help or "").partition(" [default: ")
    if not meaning:
        raise ValueError(f"`pegboard {command}`: {name} has no help")
    default = told.rstrip("]") if told else _default(parameter)
    return Option(command, name, parameter.envvar or "", default, meaning)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if isinstance(value, bool):
        yes, no = parameter.opts[0], (parameter.secondary_opts or [""])[0]
        return code(yes) if value and no else code(no) if no else ""
    if isinstance(value, float):
        return code(f"{value:g}")
    return code(str(value)) if isinstance(value, str | int | Path) and str(value) else ""


def options_of_commands(options: list[Option]) -> str:
    """A table of what each command takes."""
    rows = [(code(f"pegboard {each.command}"), code(each.name), each.default, each.meaning) for each in options]
    return table(("command", "option", "default", "meaning"), rows)
