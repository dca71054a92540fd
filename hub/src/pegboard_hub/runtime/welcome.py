"""What `pegboard up` says once everything runs: where it is, what is amiss, who is there, what to try."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pegboard.core.checks import load_toml
from pegboard.core.names import ServerName
from pegboard_hub.common.settings import DEMO
from pegboard_hub.identity.directory import DemoDirectory
from pegboard_hub.registry.first_steps import first_commands
from pegboard_hub.runtime.instance import Instance, InstanceSettings

DEFAULT_PORT = 8400

DEMO_SERVER = ServerName("prod", "presto")

DEMO_COMMANDS = (
    "servers --as ana",
    "call prod/presto run_query --as ana --arg sql='SELECT carrier, avg(dep_delay) FROM flights GROUP BY 1'",
    "explain --server prod/presto --tool get_revenue_metrics --as fay",
    "call prod/presto overwrite_table --as ana --arg table=late --arg sql='SELECT carrier, avg(dep_delay) AS delay "
    "FROM flights GROUP BY carrier'",
    "call prod/presto drop_tables --as ana --arg tables='[\"late\"]' --wait",
)
"""They show more than `first_commands` can know to: what these tools are for."""


def welcome(instance: Instance, settings: InstanceSettings, program: str, *, demo: bool) -> Iterator[str]:
    """The lines.

    Args:
        instance: started.
        settings: what it was started with.
        program: how the command is called from here.
        demo: the grants are the demo's, so its servers and its people's roles are as their descriptions say.
    """
    yield from ("", f"Pegboard is up: {settings.public_url}", "")
    if amiss := [*sorted(instance.servers.faults), *(f"grants: {line}" for line in instance.standing)]:
        yield "Not as it should be:"
        yield from (f"  {line}" for line in amiss)
        yield ""
    yield from _people(instance, settings, program, demo) if instance.demo_people else _sign_in(settings, program)
    yield ""


def _sign_in(settings: InstanceSettings, program: str) -> Iterator[str]:
    yield "People sign in with the company's login. Try, in another terminal:"
    for command in ("login", "servers"):
        yield f"  {_prefix(settings)}{program} {command}"


def _people(instance: Instance, settings: InstanceSettings, program: str, demo: bool) -> Iterator[str]:
    text = (DEMO / "directory.toml").read_text(encoding="utf-8")
    directory = load_toml(DemoDirectory, text, "directory.toml")
    yield "People of the demo:"
    for name, person in directory.people.items():
        groups = f"in {', '.join(person.groups)}" if person.groups else "in no group"
        yield f"  {name:<5} {person.about if demo else groups}"
    yield from ("", "Try, in another terminal:")
    live = instance.servers.live
    own = demo and DEMO_SERVER in live
    for command in DEMO_COMMANDS if own else first_commands(live, directory):
        yield f"  {_prefix(settings)}{program} {command}"


def _prefix(settings: InstanceSettings) -> str:
    """What tells the command where this instance is; nothing for the one that it looks for by itself."""
    if settings.public_url == f"http://localhost:{DEFAULT_PORT}":
        return ""
    if settings.public_url == f"http://localhost:{settings.port}":
        return f"PEGBOARD_PORT={settings.port} "
    return f"PEGBOARD_PUBLIC_URL={shlex.quote(settings.public_url)} "
