"""`pegboard runtime`: runtimes of their own, added and removed at the machine, and run wherever their servers run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import NAME_PATTERN
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.common.runtimes import KnownRuntime, digest_of, known_runtimes, new_runtime, read_runtime_file
from pegboard_hub.runtime.building.orders import at_once
from pegboard_hub.runtime.building.process import BuilderProcess, BuilderSettings
from pegboard_hub.runtime.isolation import SETTING
from pegboard_hub.runtime.launching import leave_no_core
from pegboard_hub.runtime.looking import JsonOption
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption

runtime = typer.Typer(
    name="runtime",
    help="Run submitted servers elsewhere than on the hub's machine.",
    add_completion=False,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="What the runtime is called.")]


@runtime.command("add")
def add(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", help="File for the runtime; it holds its credential.")],
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            show_default=False,
            help="Namespace of Pegboard whose submitted servers it runs. Repeatable.",
        ),
    ] = None,
    builds: Annotated[
        bool, typer.Option("--builds", help="It builds what is submitted, and runs no servers.")
    ] = False,
    known: Annotated[
        Path | None,
        typer.Option(
            "--known",
            show_default=False,
            help="File for a hub elsewhere. [default: into --home]",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make a credential for a runtime, and let the hub know it.

    Whoever has the credential may say how those namespaces' servers run, and speak for their processes; or, with
    --builds, say what came of what was submitted. It signs no release: what a runtime starts must be signed by the
    hub, which holds what was built against the source.

    \b
    Example:
      pegboard runtime add kubernetes --namespace prod --namespace dev --out runtime.json --known known.json
      kubectl -n pegboard create secret generic pegboard-runtime --from-file=runtime.json --from-file=known.json
      pegboard runtime add builder --builds --out builder.json
    """
    namespaces = tuple(dict.fromkeys(namespace or ()))
    if builds == bool(namespaces):
        raise typer.BadParameter("name the namespaces whose servers it runs (--namespace), or that it --builds.")
    if wrong := [each for each in namespaces if not _is_name(each)]:
        raise typer.BadParameter(f"--namespace {wrong[0][:40]!r} is no namespace's name.")
    try:
        made = new_runtime(name)
        knows = KnownRuntime(name=name, digest=digest_of(made.credential), namespaces=namespaces, builds=builds)
    except ValidationError as error:
        raise typer.BadParameter(f"{name[:40]!r} cannot be a runtime's name: {error.errors()[0]['msg']}.") from error
    target = known or Home.at(home).runtimes / f"{name}.json"
    if target.exists():
        raise ConfigurationError(str(target), ["there is one already", "remove it first: pegboard runtime remove"])
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: {error.strerror}.") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(made.model_dump_json(indent=1) + "\n")
    replace_file(target, knows.model_dump_json(indent=1) + "\n", mode=0o644)
    what = "build what is submitted" if builds else f"run {', '.join(knows.namespaces)}"
    print(f"runtime {name} may {what}, with {out}; the hub knows it by {target}")


@runtime.command("remove")
def remove(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Take a runtime's credential away: neither it nor any of its servers' processes can speak to the hub any more.

    What it runs goes on, on what it has: remove it from the cluster as well.

    \b
    Example:
      pegboard runtime remove kubernetes
    """
    path = Home.at(home).runtimes / f"{name}.json"
    if name not in known_runtimes(path.parent):
        raise ConfigurationError(
            str(path), [f"there is no runtime {name[:40]!r}", "`pegboard runtime list` shows them"]
        )
    path.unlink()
    print(f"runtime {name} is removed")


@runtime.command("list")
def list_runtimes(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the runtimes that the hub knows beside its own.

    \b
    Example:
      pegboard runtime list
    """
    found = known_runtimes(Home.at(home).runtimes)
    if as_json:
        print(json.dumps([each.model_dump(exclude={"digest"}) for each in found.values()], indent=2))
        return
    for each in found.values():
        print(f"{each.name}  {'builds' if each.builds else ', '.join(each.namespaces)}")


@runtime.command("kubernetes")
def kubernetes(
    cluster: Annotated[Path, typer.Option("--cluster", help="What you say of the cluster (a TOML file).")],
    credential: Annotated[Path, typer.Option("--credential", help="The file that `pegboard runtime add` made.")],
    hub_socket: Annotated[Path, typer.Option("--hub-socket", help="Where the hub's internal door is.")],
    releases_socket: Annotated[
        Path, typer.Option("--releases-socket", help="Where pods' way to releases ends; made here.")
    ],
    home: Annotated[Path, typer.Option("--home", help="Folder for files that are kept; it may be lost.")],
    logs_socket: Annotated[
        Path | None,
        typer.Option(
            "--logs-socket", show_default=False, help="Where the hub asks for logs; made here. [default: nowhere]"
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", show_default=False, help="Of another cluster. [default: the one it runs in]"),
    ] = None,
) -> None:
    """Run submitted servers as pods of a Kubernetes cluster, until Ctrl-C. What runs goes on without it.

    It needs the extra `pegboard-hub[kubernetes]`.

    \b
    Example:
      pegboard runtime kubernetes --cluster cluster.toml --credential runtime.json --home /var/lib/pegboard \\
        --hub-socket /run/pegboard/hub.sock --releases-socket /run/pegboard/releases.sock
    """
    try:
        from pegboard_hub.runtime.kubernetes.api import Cluster
        from pegboard_hub.runtime.kubernetes.process import ProcessSettings, RuntimeProcess
        from pegboard_hub.runtime.kubernetes.settings import read_settings
    except ImportError as error:
        problems = [f"{error.name} is not installed", "install pegboard-hub[kubernetes]"]
        raise ConfigurationError("pegboard runtime kubernetes", problems) from error
    configure_logging()
    said, shown = read_settings(cluster), read_runtime_file(credential)
    if said.runtime != shown.name:
        raise ConfigurationError(
            str(cluster), [f"runtime is {said.runtime!r}, and the credential is of {shown.name!r}"]
        )
    settings = ProcessSettings(said, shown, hub_socket, releases_socket, home, kubeconfig, logs_socket)

    async def work() -> None:
        await RuntimeProcess(settings, Cluster.open(said.namespace, kubeconfig), at_socket(hub_socket)).run()

    asyncio.run(_until_told(work()))


@runtime.command("builder")
def builder(
    credential: Annotated[
        Path, typer.Option("--credential", help="The file that `pegboard runtime add --builds` made.")
    ],
    hub_socket: Annotated[Path, typer.Option("--hub-socket", help="Where the hub's internal door is.")],
    home: Annotated[Path, typer.Option("--home", help="Folder that it works in; it may be lost.")],
    isolation: Annotated[
        str,
        typer.Option(
            "--isolation",
            envvar=SETTING,
            help="How authors' code is run: auto, bubblewrap, user or off. What is named and does not work here "
            "ends the start.",
        ),
    ] = "auto",
) -> None:
    """Build what is submitted, until Ctrl-C, for a hub that leaves it to others (`up --submitted elsewhere`).

    Several of them share the orders. What one was at when it ends is built by another.

    \b
    Example:
      pegboard runtime builder --credential builder.json --hub-socket /run/pegboard/hub.sock \\
        --home /var/lib/pegboard --isolation bubblewrap
    """
    configure_logging()
    settings = BuilderSettings(read_runtime_file(credential), hub_socket, home, isolation, at_once=at_once())
    leave_no_core()
    process = BuilderProcess(settings, at_socket(hub_socket))
    asyncio.run(_until_told(process.run()))


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Work until the process is told to end."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _is_name(text: str) -> bool:

    return re.fullmatch(NAME_PATTERN, text) is not None
