"""`promote`, `rollback`, `pause`, `scale`, `restart`, `deprecate`, `retire`: what an owner does with what runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pegboard.cli import render
from pegboard.cli.author.arriving import arrive
from pegboard.cli.author.following import Submission, end, follow, release_of
from pegboard.cli.author.releases import ServerArgument, about, server_named
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line, moment
from pegboard.cli.whence import commit_of, submitter_of
from pegboard.core.names import ServerName

if TYPE_CHECKING:
    from pegboard.cli.client import HubClient

WhyOption = Annotated[str, typer.Option("--why", help="The reason, in a line, for its history.")]
NeededWhy = Annotated[str, typer.Option("--why", help="The reason, in a line; its callers and its history are told.")]

ROLES = ("live", "candidate", "previous")
"""What a release of a deployment is there for."""


@with_options
def deployment(options: Options, server: ServerArgument) -> None:
    """Show what runs of a server: releases with their share of the callers, replicas, and what is watched.

    \b
    Examples:
      pegboard deployment prod/presto
      pegboard deployment dev/weather --json
    """
    name = server_named(server)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        _tell(hub.get(f"servers/{name}/deployment"), options)


@with_options
def promote(
    options: Options,
    server: ServerArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="NAMESPACE", help="Submit what is live in this namespace to another, as to prod."
        ),
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", help="Deploy this one again, which served before or failed.")
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="With --to: what is new, for its reviewers.")] = "",
    why: WhyOption = "",
) -> None:
    """Go on with a release without waiting, or submit what is live to another namespace.

    Without options, a pause ends; where none is, the release takes all calls without further steps, or is watched no
    longer. With --to, the very same source is submitted elsewhere, and nothing is uploaded again.

    \b
    Examples:
      pegboard promote prod/presto --why "looked at the figures"
      pegboard promote dev/weather --to prod -m "Forecasts by office"
      pegboard promote prod/presto --release 1.3.0 --why "the trouble was the database's"
    """
    name = server_named(server)
    if to is not None and release is not None:
        raise Failure.usage("--to and --release exclude each other.")
    if message and to is None:
        raise Failure.usage("--message goes with --to.", "Give the reason with --why.")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        if to is not None:
            _elsewhere(hub, name, to, message, options)
            return
        _act(hub, name, "promote", {"why": why, **({"release": release} if release else {})}, options)


@with_options
def rollback(
    options: Options,
    server: ServerArgument,
    why: NeededWhy,
    to: Annotated[
        str | None, typer.Option("--to", metavar="RELEASE", help="To this one. Default: the last good one.")
    ] = None,
) -> None:
    """Go back to the last good release: at once while it is kept warm, else as soon as it is started.

    \b
    Examples:
      pegboard rollback prod/presto --why "it answers with last year's figures"
      pegboard rollback prod/presto --to 1.2.0 --why "1.3 had it, too"
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        body = {"why": why, **({"release": to} if to else {})}
        _act(hub, server_named(server), "rollback", body, options)


@with_options
def pause(
    options: Options,
    server: ServerArgument,
    why: WhyOption = "",
    ends: Annotated[bool, typer.Option("--end", help="End the pause: the rollout goes on by itself.")] = False,
) -> None:
    """Hold a rollout where it is, until it is promoted or the pause ends. What runs goes on running.

    To close a server for everybody, stop it: pegboard stop server NS/NAME.

    \b
    Examples:
      pegboard pause prod/presto --why "an incident elsewhere"
      pegboard pause prod/presto --end
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        _act(hub, server_named(server), "resume" if ends else "pause", {"why": why}, options)


@with_options
def scale(
    options: Options,
    server: ServerArgument,
    fewest: Annotated[
        int | None, typer.Option("--min", min=0, max=100, help="Fewest replicas; 0: none if idle.")
    ] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, max=100, help="Most replicas.")] = None,
    manifest: Annotated[bool, typer.Option("--manifest", help="As pegboard.toml says, again.")] = False,
    why: WhyOption = "",
) -> None:
    """Keep more or fewer replicas than pegboard.toml says, until --manifest ends it.

    \b
    Examples:
      pegboard scale prod/presto --min 3 --max 6 --why "the quarter closes"
      pegboard scale prod/presto --manifest
    """
    if manifest == (fewest is not None or most is not None):
        raise Failure.usage("Say how many: --min, --max or both; or --manifest.")
    bounds = {name: value for name, value in (("min", fewest), ("max", most)) if value is not None}
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        _act(hub, server_named(server), "scale", {"why": why, **bounds}, options)


@with_options
def restart(options: Options, server: ServerArgument, why: WhyOption = "") -> None:
    """Start a server's processes anew, as after one of its secrets changed. No call is lost.

    Each process ends once a new one answers in its place. Where the new ones do not come up, the old ones go on.

    \b
    Examples:
      pegboard restart prod/presto --why "its password changed"
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        _act(hub, server_named(server), "restart", {"why": why}, options)


@with_options
def deprecate(
    options: Options,
    server: ServerArgument,
    why: NeededWhy,
    ends: Annotated[
        str | None,
        typer.Option("--on", metavar="DATE", help="It closes by itself then: 2027-03-31, or 90d from now."),
    ] = None,
    successor: Annotated[
        str | None, typer.Option("--successor", metavar="NS/NAME", help="What to use in its place.")
    ] = None,
) -> None:
    """Announce that a server ends: its callers read it in results and on its pages.

    \b
    Examples:
      pegboard deprecate prod/flights --on 90d --successor prod/presto --why "Presto has all of it"
    """
    name = server_named(server)
    body: dict[str, Any] = {"why": why}
    if ends is not None:
        body["ends_at"] = _date(ends)
    if successor is not None:
        body["successor"] = str(server_named(successor))
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        found = hub.post(f"servers/{name}/deprecate", body)
    if options.as_json:
        render.document(found)
        return
    until = f"; it closes on {_day(body['ends_at'])}" if "ends_at" in body else ""
    render.text(f"{name} is deprecated{until}. Whoever calls it is told.")


@with_options
def retire(
    options: Options,
    server: ServerArgument,
    why: NeededWhy,
    sure: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody is at the terminal.")] = False,
) -> None:
    """Close a server for good: it ends, its name stays taken, its history and records stay.

    \b
    Examples:
      pegboard retire dev/weather --why "moved to prod/forecast"
    """
    from pegboard.cli.there import somebody_is_here

    name = server_named(server)
    if not sure and (options.as_json or not somebody_is_here()):
        raise Failure.usage("Nobody is here to be asked whether it closes for good.", "If so, say it: --yes")
    if not sure:
        typer.confirm(f"Close {name} for everybody, for good?", abort=True, err=True)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub, about(hub, name):
        found = hub.post(f"servers/{name}/retire", {"why": why})
    if options.as_json:
        render.document(found)
        return
    render.text(f"{name} is retired. Its history stays: pegboard history {name}{options.as_arguments()}")


def _elsewhere(hub: HubClient, server: ServerName, to: str, message: str, options: Options) -> None:
    target = server_named(f"{to}/{server.name}")
    running = hub.get(f"servers/{server}/deployment")
    live = running.get("live")
    source = str(live.get("submission", "")) if isinstance(live, Mapping) else ""
    if not source:
        raise Failure.usage(f"{server} has no release that is live.", f"See: pegboard releases {server}")
    answer = hub.post(f"submissions/{quote(source, safe='')}/again", {"namespace": to, "message": message})
    submission = Submission(str(target), str(answer.get("id", "")))
    follow(submission, hub.get, options)
    found = hub.get(submission.path)
    arrive(hub, submission.server, found)
    end(submission, found, options)


def _act(hub: HubClient, server: ServerName, verb: str, body: Mapping[str, Any], options: Options) -> None:
    began = time.monotonic()
    with about(hub, server):
        found = hub.post(f"servers/{server}/deployment/{verb}", body)
    took = time.monotonic() - began
    if not options.as_json:
        render.hint(_done(found, verb, took, options))
    _tell(found, options)


def _done(found: Mapping[str, Any], verb: str, took: float, options: Options) -> str:
    """What has become of it: a release that is not warm is started first, and takes no call before it answers."""
    if verb in ("promote", "rollback") and found.get("stage") == "starting":
        look = f"pegboard deployment {line(found.get('server', ''))}{options.as_arguments()}"
        return f"On its way: the release is being started, and takes the calls once it answers. Look: {look}"
    if verb == "restart":
        look = f"pegboard deployment {line(found.get('server', ''))}{options.as_arguments()}"
        return f"On its way: a process ends once a new one answers in its place. Look: {look}"
    return f"Done in {took:.1f} s."


def _tell(found: Mapping[str, Any], options: Options) -> None:
    if options.as_json:
        render.document(found)
        return
    for label, value in _facts(found):
        render.text(f"{label:<12}{line(value)}")
    if not any(found.get(role) for role in ROLES):
        render.hint("None of its releases was submitted. One that comes from the operator's folder has no rollout.")
    replicas = [each for each in found.get("replicas") or () if isinstance(each, Mapping)]
    if replicas:
        print()
        heads = ("replica", "release", "state", "calls", "restarts", "MB", "last failure")
        render.table(heads, [_replica(each) for each in replicas], right=frozenset({3, 4, 5}))


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    retired = ", retired: nothing of it runs" if found.get("lifecycle") == "retired" else ""
    yield "server", f"{found.get('server', '')}{retired}"
    held = f": {found['paused_why']}" if found.get("paused_why") else ""
    yield "rollout", str(found.get("stage", "")) + (f", paused{held}" if found.get("paused") else "")
    until = moment(found.get("until"))
    if until:
        yield "until", f"{until} UTC"
    for role in ROLES:
        one = found.get(role)
        if isinstance(one, Mapping):
            ready = f"{one.get('ready', 0)} of {one.get('wanted', 0)} replicas ready"
            share = f"{one['percent']} % of the callers" if one.get("percent") is not None else ""
            yield role, ", ".join(part for part in (release_of(one), share, ready) if part)
            if one.get("submitted_by"):
                yield "", f"submitted by {', '.join(filter(None, (submitter_of(one), _commit(one))))}"
    scale = found.get("scale")
    if isinstance(scale, Mapping):
        why = ""
        if scale.get("overridden"):
            why = f" (pegboard.toml says {scale.get('declared_min')} to {scale.get('declared_max')})"
        yield "replicas", f"{scale.get('min')} to {scale.get('max')}{why}"
    watch = found.get("watch")
    if isinstance(watch, Mapping):
        yield from _watched(watch)


def _commit(found: Mapping[str, Any]) -> str:
    commit = commit_of({**found, "commit": str(found.get("commit") or "")[:12]})
    return f"commit {commit}" if commit else ""


def _watched(watch: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for label, key in (("calls now", "after"), ("before", "before")):
        figures = watch.get(key)
        if isinstance(figures, Mapping):
            words = (
                f"{figures.get('calls', 0)} calls, {figures.get('error_percent', 0):.1f} % failed, "
                f"median {figures.get('median_ms') or 0:.0f} ms, {figures.get('denial_percent', 0):.1f} % denied"
            )
            yield label, words
    if watch.get("unsaid"):
        yield "watched", str(watch["unsaid"])
    if watch.get("worse"):
        yield "worse", str(watch["worse"])


def _replica(each: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        line(each.get("id", "")),
        line(each.get("release", ""))[:12],
        line(each.get("state", "")),
        str(each.get("in_flight", "")),
        str(each.get("restarts", "")),
        str(each.get("memory_mb") or ""),
        line(each.get("last_failure") or ""),
    )


def _date(text: str) -> int:
    """A day, or so many from now, in milliseconds since the epoch."""
    if found := re.fullmatch(r"([1-9][0-9]{0,3})d", text):
        return int((time.time() + int(found[1]) * 86_400) * 1000)
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise Failure.usage(f"--on {line(text)} is no day: write it as 2027-03-31, or 90d.") from None


def _day(at_ms: int) -> str:
    return moment(at_ms)[:10]
