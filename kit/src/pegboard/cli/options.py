"""The options that every command takes, as one value."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import typer

from pegboard.cli.exit import Failure
from pegboard.core.names import PERSON_SURFACES

DEFAULT_PORT = "8400"


@dataclass(frozen=True, slots=True)
class Options:
    """Who calls, from where, to which instance, and how the answer is written.

    Attributes:
        person: a person of the demo directory to act as; None when nobody was named.
        surface: where the call is made from; None leaves it to the default, `cli`.
        channel: the chat channel, for the surface `bot`.
        as_json: print one JSON document instead of text for a person.
        url: the instance's public URL, without a slash at its end.
        names_url: whether the command line says which instance, rather than the environment.
    """

    person: str | None
    surface: str | None
    channel: str | None
    as_json: bool
    url: str
    names_url: bool = False

    @classmethod
    def read(
        cls,
        variables: Mapping[str, str],
        *,
        as_person: str | None,
        surface: str | None,
        channel: str | None,
        as_json: bool,
        url: str | None,
    ) -> Options:
        """Check the options against one another.

        Raises:
            Failure: wrong usage; the message names the option and the mend.
        """
        if as_person is None and (surface or channel):
            given = "--surface" if surface else "--channel"
            raise Failure.usage(
                f"{given} means nothing without --as.",
                "Add --as PERSON, or leave it out: a login is of the surface cli.",
            )
        if surface is not None and surface not in PERSON_SURFACES:
            raise Failure.usage(f"--surface {surface}: unknown; choose one of {', '.join(PERSON_SURFACES)}.")
        if channel is not None and surface != "bot":
            raise Failure.usage("--channel belongs to bots.", "Add --surface bot, or leave it out.")
        return cls(as_person, surface, channel, as_json, _origin(url or _default_url(variables)), bool(url))

    @property
    def url_argument(self) -> str:
        """The part of a command line that repeats which instance, for hints; empty when the environment says it."""
        return f" --url {self.url}" if self.names_url else ""

    def as_arguments(self) -> str:
        """The part of a command line that repeats who, where and which instance, for hints."""
        given = (("--as", self.person), ("--surface", self.surface), ("--channel", self.channel))
        return "".join(f" {option} {value}" for option, value in given if value) + self.url_argument


def _default_url(variables: Mapping[str, str]) -> str:
    port = variables.get("PEGBOARD_PORT") or DEFAULT_PORT
    return variables.get("PEGBOARD_PUBLIC_URL") or f"http://localhost:{port}"


def _origin(url: str) -> str:
    """The URL without a slash at its end; audiences are built on it, so it has no path."""
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        bad = True
    if bad or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise Failure.usage(
            f"{url!r} is not the URL of an instance.",
            "Give --url, PEGBOARD_PUBLIC_URL or PEGBOARD_PORT so that it reads like http://localhost:8400.",
        )
    return url.rstrip("/")


def _common(
    as_person: Annotated[
        str | None, typer.Option("--as", help="Act as a person of the demo directory, without a login.")
    ] = None,
    surface: Annotated[
        str | None, typer.Option("--surface", help=f"Call from {', '.join(PERSON_SURFACES)}. Needs --as.")
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Chat channel, with --surface bot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="The instance. Default: PEGBOARD_PUBLIC_URL, else http://localhost with PEGBOARD_PORT or 8400.",
        ),
    ] = None,
) -> None:
    """Carries the common options' declarations; never called."""


ACTING = ("as_person", "surface", "channel")
"""The common options that say as whom a command acts."""


def with_own_options(command: Callable[..., None]) -> Callable[..., None]:
    """As `with_options`, for a command that acts as nobody but who signs in."""
    shown = with_options(command)
    signature = inspect.signature(shown)
    parameters = [_hidden(p) if p.name in ACTING else p for p in signature.parameters.values()]
    shown.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return shown


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    """The same option, still read so that it is refused in words, but offered to nobody."""
    kind, option = get_args(parameter.annotation)
    unseen = copy.copy(option)
    unseen.hidden = True
    return parameter.replace(annotation=Annotated[kind, unseen])


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options in place of its parameter `options`, as typer reads them."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    common = inspect.signature(_common, eval_str=True).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        options = Options.read(os.environ, **{name: given.pop(name) for name in common})
        command(options=options, **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *common.values())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
