"""What an author says of a new server: by options, and where they are at a terminal, asked for what is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import typer

from pegboard.cli import render
from pegboard.cli.author.scaffold import About
from pegboard.cli.exit import Failure
from pegboard.cli.text import line
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN

LONGEST_DESCRIPTION = 100


@dataclass(frozen=True, slots=True)
class Given:
    """What the options said; None and empty where they did not."""

    description: str | None
    owner: str | None
    channel: str | None
    groups: tuple[str, ...]


def about(name: str, given: Given, suggested: str, *, asking: bool) -> About:
    """What a server is and whose.

    Args:
        name: the server's.
        given: by options.
        suggested: a description that the author's own document has; empty without.
        asking: whether somebody is there to be asked for what is missing.

    Raises:
        Failure: something is missing, or does not fit.
    """
    owner = given.owner and fitting("--owner", group_name, given.owner)
    groups = [fitting("--group", group_name, each) for each in given.groups]
    channel = given.channel and fitting("--support-channel", channel_name, given.channel)
    description = given.description and fitting("--description", description_line, given.description)
    suggested = suggested if 0 < len(suggested) <= LONGEST_DESCRIPTION else ""
    if asking:
        description = description or asked("What is it for, in a line", description_line, suggested or None)
        owner = owner or asked("Your team", group_name)
        channel = channel or asked("Where do people ask", channel_name, f"#{name}")
        groups = groups or asked("Which groups may use it", group_names, owner).split()
    description = description or suggested
    if missing := [option for option, said in (("--owner", owner), ("--description", description)) if not said]:
        raise Failure.usage(
            f"Missing: {' and '.join(missing)}.", "At a terminal you are asked; see pegboard new --help"
        )
    title = name.replace("-", " ").capitalize()
    whose = owner or ""
    return About(name, title, description, whose, channel or f"#{name}", tuple(dict.fromkeys(groups or [whose])))


def asked(question: str, check: Callable[[str], str], default: str | None = None) -> str:
    """What the person types, asked again until it fits. An empty default is not shown."""
    while True:
        answer: str = typer.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            return check(answer)
        except ValueError as error:
            render.hint(f"  {error}")


def fitting(option: str, check: Callable[[str], str], value: str) -> str:
    """What an option says, as it is used.

    Raises:
        Failure: it does not fit.
    """
    try:
        return check(value)
    except ValueError as error:
        raise Failure.usage(f"{option} {line(value)}: {error}.") from error


def server_name(text: str) -> str:
    """A server's name.

    Raises:
        ValueError: it is none.
    """
    if not _is_name(text):
        raise ValueError("use 2 to 32 of a-z, 0-9 and single '-', beginning with a letter, as in office-rooms")
    return text


def description_line(text: str) -> str:
    """A description.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not text or not text.isprintable() or len(text) > LONGEST_DESCRIPTION:
        raise ValueError(f"it must be one line of 1 to {LONGEST_DESCRIPTION} characters")
    return text


def group_name(text: str) -> str:
    """A group's name.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not _is_name(text):
        raise ValueError("a group is 2 to 32 of a-z, 0-9 and single '-', beginning with a letter")
    return text


def group_names(text: str) -> str:
    """Groups' names, a space between them.

    Raises:
        ValueError: there is none, or one is none.
    """
    names = [group_name(each) for each in text.replace(",", " ").split()]
    if not names:
        raise ValueError("name one at least")
    return " ".join(names)


def channel_name(text: str) -> str:
    """Where people ask.

    Raises:
        ValueError: it is too short.
    """
    text = text.strip()
    if len(text) < 2 or not text.isprintable():
        raise ValueError("two characters at least, for example #data-platform")
    return text


def _is_name(text: str) -> bool:
    return bool(re.fullmatch(NAME_PATTERN, text)) and NAME_LENGTH[0] <= len(text) <= NAME_LENGTH[1]
