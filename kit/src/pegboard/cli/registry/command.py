"""`registry import-drafts`: what it is asked, and what it tells of what it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pegboard.cli import render
from pegboard.cli.catalogue import server_name
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.plugins import PluginGroup
from pegboard.cli.text import line
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import ServerName

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient
    from pegboard.cli.registry.drafts import Draft, LeftOut, Wanted

GROUP = "pegboard.commands.registry"
"""Entry points that add commands to this group, as `pegboard.commands` does to the command itself."""

SENSITIVITIES: tuple[str, ...] = get_args(Sensitivity)

MANY = 50
"""Drafts at once that are not made unasked: a public registry has thousands of servers."""


class RegistryGroup(PluginGroup):
    """The registry's commands, followed by those of other distributions."""

    entry_points = GROUP


registry = typer.Typer(
    name="registry",
    cls=RegistryGroup,
    help="Bring drafts into the registry, take the grants file out of it, and see what one would change.",
    rich_markup_mode=None,
)


@registry.callback()
def _registry() -> None:
    """Keep one command a group's command, and not the group itself."""


@registry.command("import-drafts")
@with_options
def import_drafts(
    options: Options,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A server.json file, - for stdin, or another registry's URL.")
    ],
    owner: Annotated[
        str, typer.Option("--owner", metavar="TEAM", help="The team that is to own them; one of yours.")
    ],
    support_channel: Annotated[
        str, typer.Option("--support-channel", metavar="CHANNEL", help="Where people will ask, as #data-platform.")
    ],
    namespace: Annotated[str, typer.Option("--namespace", help="Where the drafts go.")] = "prod",
    sensitivity: Annotated[
        str, typer.Option("--sensitivity", help=f"Of their data: {', '.join(SENSITIVITIES)}.")
    ] = "restricted",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="PATTERN", help="Only servers called so there; * and ? may stand for any."),
    ] = None,
    search: Annotated[str, typer.Option("--search", help="Let the other registry search for this.")] = "",
    server: Annotated[
        str | None, typer.Option("--server", metavar="NS/NAME", help="What the one server is to be called here.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be made, as far as you may know, and make nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help=f"Make them even where they are more than {MANY}.")
    ] = False,
) -> None:
    """Make drafts of servers that a server.json file or another registry tells of.

    A draft is a proposal: nobody can call it. Its name is the part after the slash there; links lead to the
    repository, the website and the address there. Pegboard runs its own servers, so no draft leads a call elsewhere.
    Whatever is left out is told with the reason, and nothing is shortened.

    \b
    Example:
      pegboard registry import-drafts server.json --owner platform --support-channel '#help' --as pat --dry-run
      pegboard registry import-drafts https://registry.modelcontextprotocol.io --name 'com.acme/*' \\
        --owner platform --support-channel '#help'
    """
    from pegboard.cli.registry.drafts import Wanted, drafts
    from pegboard.cli.registry.source import read

    if sensitivity not in SENSITIVITIES:
        raise Failure.usage(f"--sensitivity {sensitivity}: unknown; choose one of {', '.join(SENSITIVITIES)}.")
    chosen = server_name(server) if server is not None else None
    wanted = Wanted(_namespace(namespace), owner, support_channel, sensitivity, tuple(name or ()), chosen)
    work = _Work.of(drafts(read(source, search), wanted, source))
    work.check(wanted, yes=yes or dry_run)
    if dry_run:
        work.look(options)
    else:
        work.make(options)
    work.show(source, wanted, dry_run=dry_run, as_json=options.as_json)
    if not (dry_run or options.as_json):
        work.tell_what_is_next(options.url)
    if work.status is not ExitStatus.DONE:
        raise typer.Exit(work.status)


def _namespace(text: str) -> str:
    try:
        return ServerName(text, "name").namespace
    except ValueError as error:
        raise Failure.usage(f"--namespace: {error}.") from error


@dataclass
class _Work:
    """What is to be made, and what became of it.

    Attributes:
        not_looked_up: why a dry run does not know what the registry says; empty where it does.
    """

    drafts: list[Draft]
    left_out: list[LeftOut]
    status: ExitStatus = field(default=ExitStatus.DONE)
    not_looked_up: str = ""

    @classmethod
    def of(cls, found: Iterable[Draft | LeftOut]) -> _Work:
        from pegboard.cli.registry.drafts import Draft, LeftOut

        every = list(found)
        return cls([e for e in every if isinstance(e, Draft)], [e for e in every if isinstance(e, LeftOut)])

    def check(self, wanted: Wanted, *, yes: bool) -> None:
        """Stop before anything is made where that is hardly meant."""
        if wanted.server is not None and len(self.drafts) + len(self.left_out) > 1:
            raise Failure.usage("--server names one server, and there are several.", "Choose one with --name.")
        if len(self.drafts) > MANY and not yes:
            mend = "Narrow it with --name or --search, look at it with --dry-run, or say --yes."
            raise Failure.usage(f"That would make {len(self.drafts)} drafts.", mend)

    def look(self, options: Options) -> None:
        """Leave out the drafts that the registry would refuse, as far as this caller may know."""
        from pegboard.cli.client import HubClient
        from pegboard.cli.registry.drafts import LeftOut

        fine: list[Draft] = []
        if not self.drafts:
            return
        with HubClient(options) as hub:
            for draft in self.drafts:
                if refused := self._refused(hub, draft):
                    self.left_out.append(LeftOut(draft.official, refused))
                    self.status = ExitStatus.DENIED
                else:
                    fine.append(draft)
        self.drafts = fine

    def _refused(self, hub: HubClient, draft: Draft) -> str:
        """Why the registry would refuse a draft; empty where it would not, or cannot be asked."""
        if self.not_looked_up:
            return ""
        try:
            hub.post("drafts:check", draft.body)
        except Failure as failure:
            if failure.status is ExitStatus.UNREACHABLE:
                self.not_looked_up = failure.error["message"]
                return ""
            if not failure.refused:
                raise
            return failure.error["message"]
        return ""

    def make(self, options: Options) -> None:
        """Make the drafts, one by one. One that the hub refuses is left out, and the others go on."""
        from pegboard.cli.client import HubClient
        from pegboard.cli.registry.drafts import LeftOut

        made: list[Draft] = []
        with HubClient(options) as hub:
            for draft in self.drafts:
                try:
                    hub.post("servers", draft.body)
                    made.append(draft)
                except Failure as failure:
                    if not failure.refused or failure.status is ExitStatus.UNREACHABLE:
                        failure.hints = (*failure.hints, _so_far(made))
                        raise
                    self.left_out.append(LeftOut(draft.official, failure.error["message"]))
                    self.status = ExitStatus.DENIED
        self.drafts = made

    def show(self, source: str, wanted: Wanted, *, dry_run: bool, as_json: bool) -> None:
        """Tell of it."""
        if as_json:
            render.document(self._as_json(source, dry_run))
            return
        if self.drafts:
            rows = [[d.server, d.official, line(d.version), line("; ".join(d.not_kept))] for d in self.drafts]
            render.table(("draft", "from", "version", "not taken over"), rows)
        if self.left_out:
            render.table(("left out", "why"), [[line(each.official), line(each.why)] for each in self.left_out])
        made = "would be made" if dry_run else "made"
        render.hint(f"{_count(self.drafts, 'draft')} {made}, {_count(self.left_out, 'server')} left out.")
        if not (self.drafts or self.left_out):
            fits = f" that fits {' or '.join(wanted.names)}" if wanted.names else ""
            render.hint(f"{source} tells of no server{fits}.")
        if self.not_looked_up:
            render.hint(f"Whether the registry here would take them was not looked up: {self.not_looked_up}")

    def tell_what_is_next(self, url: str) -> None:
        """Say where the drafts are, and what makes servers of them."""
        names = [draft.server for draft in self.drafts]
        if names:
            whose, which = (
                ("its owners submit it", names[0]) if len(names) == 1 else ("their owners submit each", "NS/NAME")
            )
            render.hint(f"Next, {whose} for review: {url}/servers/{which}/access")

    def _as_json(self, source: str, dry_run: bool) -> dict[str, Any]:
        return {
            "source": source,
            "dry_run": dry_run,
            "not_looked_up": self.not_looked_up,
            "drafts": [
                {"from": d.official, "version": d.version, **d.body, "not_taken_over": list(d.not_kept)}
                for d in self.drafts
            ],
            "left_out": [{"from": each.official, "why": each.why} for each in self.left_out],
        }


def _count(things: Sequence[Any], one: str) -> str:
    return f"{len(things)} {one}{'' if len(things) == 1 else 's'}"


def _so_far(made: Sequence[Draft]) -> str:
    names = ", ".join(draft.server for draft in made)
    return f"Made before that: {names}." if names else "Nothing was made."
