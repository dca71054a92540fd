"""`connect`: what it is asked, what it shows, and what it writes once the person agrees."""

from __future__ import annotations

import difflib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.catalogue import server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line
from pegboard.core.client_configs import BY_ID, CLIENTS, ClientConfig
from pegboard.core.names import ServerName

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient
    from pegboard.cli.connect.plan import Change


@with_options
def connect(
    options: Options,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {', '.join(BY_ID)}.")],
    server: Annotated[
        list[str] | None,
        typer.Option("--server", metavar="NS/NAME", help="Only this server; else all you may use. Repeatable."),
    ] = None,
    project: Annotated[
        bool, typer.Option("--project", help="Write the project's file in this folder instead of your own.")
    ] = False,
    path: Annotated[Path | None, typer.Option("--path", metavar="FILE", help="Write this file instead.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take out again what this command wrote.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
) -> None:
    """Write the servers you may use into your MCP client's configuration.

    It shows the difference and asks first. No token is written: the client signs in by itself when it connects.
    Run it again after your access has changed: servers are added and taken out. An entry that leads to one of these
    servers under the name that this command gives it is this command's own: it is brought up to date, and taken out
    whole, with what you wrote into it. Everything else stays as you wrote it.

    \b
    Example:
      pegboard connect vscode --as ana --dry-run
      pegboard connect claude-code --as ana --yes
      pegboard connect codex --as ana --server prod/presto
      pegboard connect cursor --remove
    """
    chosen_client = _client(client)
    chosen = frozenset(server_name(each) for each in server or ())
    found = None if remove else _found(options, chosen_client, chosen)
    usable = found.usable if found else None
    from pegboard.cli.connect.job import Job

    job = Job.prepare(chosen_client, options.url, _path(chosen_client, project, path), project or path is not None)
    plan = job.removing(chosen or None) if usable is None else job.connecting(usable, chosen or frozenset(usable))
    if found and not (usable or plan.changes):
        raise found.nothing_open()
    if not options.as_json:
        _show(job.path, job.before, plan.text)
    written = plan.text != job.before and not dry_run
    if written and not yes:
        written = _agreed(job.path, options.as_json)
    backup = job.write(plan) if written else None
    if options.as_json:
        changes = [
            {"server": str(each.server), "entry": each.name, "action": each.action, "why": each.why}
            for each in plan.changes
        ]
        kept = str(backup) if backup else None
        render.document(
            {
                "client": client,
                "path": str(job.path),
                "written": written,
                "backup": kept,
                "changes": changes,
                "left_out": [each for each, _ in found.left_out] if found else [],
            }
        )
        return
    if found and not chosen:
        for words in found.words():
            render.hint(words)
    _say(plan.changes, job.path, written, backup)
    if written and not remove:
        render.hint(f"Next: {_next(chosen_client, plan.changes)}")


def _next(client: ClientConfig, changes: Sequence[Change]) -> str:
    """What the person does next, with the names of the entries that are there now."""
    names = [each.name for each in changes if each.action != "remove"]
    if "NAME" not in client.then or not names:
        return client.then
    first, *others = names
    said = client.then.replace("NAME", first)
    return f"{said} So with {', '.join(others)}." if others else said


def _client(given: str) -> ClientConfig:
    if given in BY_ID:
        return BY_ID[given]
    near = difflib.get_close_matches(given, BY_ID, n=1)
    mend = f"Did you mean {near[0]}?" if near else f"Choose one of {', '.join(BY_ID)}."
    raise Failure.usage(f"There is no client {given} here.", mend)


def _path(client: ClientConfig, project: bool, path: Path | None) -> Path:
    from pegboard.cli.connect.place import user_file

    if project and path is not None:
        raise Failure.usage("--project and --path exclude each other.", "Use one of them.")
    if path is not None:
        return path.absolute()
    if not project:
        return user_file(client, os.environ)
    if not client.project_file:
        with_one = ", ".join(each.id for each in CLIENTS if each.project_file)
        raise Failure.usage(f"{client.title} reads no file of a project.", f"These do: {with_one}.")
    return Path.cwd() / client.project_file


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is for a person from where the hub takes a client to be.

    Attributes:
        usable: the servers that are worth an entry.
        left_out: those that are open to the person from the command and not from there, each with whom to ask.
        place: the surfaces, in words.
        asked: the part of a command line that says who looks, and from where.
    """

    usable: list[ServerName]
    left_out: tuple[tuple[str, str], ...]
    place: str
    asked: str

    def words(self) -> list[str]:
        """What to say of what is left out."""
        return [f"{server}: left out, not open to you from {self.place}{whom}." for server, whom in self.left_out]

    def nothing_open(self) -> Failure:
        """The failure where no server is open."""
        mend = " ".join(self.words()) or f"See what you may use: pegboard servers{self.asked}"
        return Failure.here(ExitStatus.DENIED, "nothing_open", f"No server is open to you from {self.place}.", mend)


def _found(options: Options, client: ClientConfig, chosen: Iterable[ServerName]) -> _Found:
    """The servers that are worth an entry: what the person may use from where the hub may take the client to be.

    Raises:
        Failure: one of `chosen` is not among them.
    """
    from pegboard.cli.client import HubClient

    surfaces = (options.surface,) if options.surface else client.surfaces
    with HubClient(options) as hub:
        usable: dict[ServerName, str] = {}
        for surface in surfaces:
            usable |= _servers(hub, options, None if options.surface else surface)
        here = {} if options.surface else _servers(hub, options, None)
        for name in chosen:
            if name not in usable:
                raise _not_open(hub, name, " or ".join(surfaces))
    left_out = tuple((str(name), here[name]) for name in sorted(here) if name not in usable)
    who = replace(options, surface=surfaces[0]) if options.person else options
    return _Found(sorted(usable), left_out, " or ".join(surfaces), who.as_arguments())


def _not_open(hub: HubClient, name: ServerName, place: str) -> Failure:
    """The failure for a server that was named and is not open from there, or is not there at all."""
    found = hub.record(name)
    if found is None or found.get("out_of_reach"):
        return hub.no_such_server(name)
    message = f"{name} is not open to you from {place}{_whom(found)}."
    return Failure.here(ExitStatus.DENIED, "not_open", message)


def _servers(hub: HubClient, options: Options, surface: str | None) -> dict[ServerName, str]:
    """The servers that are open from a surface, each with whom to ask for more."""
    from pegboard.cli.http import not_pegboard

    listed = hub.every("servers", "servers", surface=surface)
    try:
        return {ServerName.parse(str(each.get("server", ""))): _whom(each) for each in listed}
    except ValueError as error:
        raise not_pegboard(options.url) from error


def _whom(server: Mapping[str, Any]) -> str:
    owner, channel = line(str(server.get("owner") or "")), line(str(server.get("support_channel") or ""))
    return f"; ask {owner}{f' in {channel}' if channel else ''}" if owner else ""


def _agreed(path: Path, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise Failure.usage("Nobody is there to be asked.", "Add --yes to write, or --dry-run to look.")
    return typer.confirm(f"Write this to {path}?", err=True)


def _show(path: Path, before: str, after: str) -> None:
    """The unified difference, with as little as possible of what else is in the file."""
    old, new, name = before.splitlines(), after.splitlines(), str(path)
    for each in difflib.unified_diff(old, new, name, name, n=2, lineterm=""):
        render.text(each)


def _say(changes: Sequence[Change], path: Path, written: bool, backup: Path | None) -> None:
    counted: Counter[str] = Counter(each.action for each in changes)
    for each in changes:
        if each.why:
            render.hint(f"{each.server}: {_WORDS[each.action]} {each.name}: {each.why}.")
    said = ", ".join(f"{counted[action]} {_DONE[action]}" for action in _DONE if counted[action]) or "nothing to do"
    if written:
        render.hint(f"Written to {path}: {said}." + (f" As it was before: {backup}" if backup else ""))
    else:
        render.hint(f"Nothing was written to {path}: {said}.")


_WORDS = {"leave": "left", "remove": "out goes", "add": "in goes", "change": "changed", "keep": "kept"}
_DONE = {"add": "to add", "change": "to change", "remove": "to take out", "keep": "there already", "leave": "left"}
