"""`pegboard edge`: further edges behind the same name, added and removed at the hub, and run wherever they run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.certificates import CERTIFICATE, KEY, TlsFiles, noted_files
from pegboard_hub.common.home import Home, unusable
from pegboard_hub.common.noted import noted
from pegboard_hub.common.tasks import end
from pegboard_hub.edge.link import Removed
from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.commands import on_signals
from pegboard_hub.runtime.gate import EdgeGate, GateSettings
from pegboard_hub.runtime.joined import JoinedEdge, JoinedSettings
from pegboard_hub.runtime.looking import JsonOption
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.runtime.preflight import HIGHEST_PORT, LOWEST_PORT
from pegboard_hub.runtime.progress import Progress, ProgressHandler
from pegboard_hub.runtime.up_options import checked
from pegboard_hub.services.material import spiffe_id_in
from pegboard_hub.upkeep.hub_door import HubDoor

DOOR = "/internal/v1/edges"

INSTANCE_LOOK_S = 0.5
"""How often a gate that waits for its instance looks, in seconds."""

STDOUT = Path("-")

REMOVED = 3
"""Exit status of an edge that the hub has removed: whoever starts processes must not start it again."""

NOT_WELL = 1

edge = typer.Typer(
    name="edge",
    help="Run further edges behind the same name, each with its own last good files.",
    add_completion=False,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="What the edge is called.")]


@edge.command("add")
def add(
    name: NameArgument,
    out: Annotated[
        Path,
        typer.Option("--out", help="File that the edge is joined with; it holds its credential. `-` is stdout."),
    ],
    home: HomeOption = DEFAULT_HOME,
    spiffe_id: Annotated[
        str, typer.Option("--spiffe-id", show_default=False, help="Of an edge on another machine, who it is.")
    ] = "",
    gate_at: Annotated[
        str,
        typer.Option(
            "--gate", show_default=False, help="Where that edge reaches the gate of this instance, as HOST:PORT."
        ),
    ] = "",
) -> None:
    """Add an edge to a running instance, and write the file that it is joined with (mode 0600).

    An edge on another machine is named by its SPIFFE ID, and reaches the instance through `pegboard edge gate`.
    Nobody can read the credential in it again: if the file is lost, remove the edge and add it once more.

    \b
    Example:
      pegboard edge add second --out second.join
      pegboard edge up --join second.join --home /srv/pegboard-second --port 8401
    """
    way = _way(Home.at(home), gate_at, spiffe_id)
    with _only_ours(out) as place:
        with HubDoor(Home.at(home)) as hub:
            joined = hub.ask("POST", DOOR, {"name": name, **({"spiffe_id": spiffe_id} if spiffe_id else {})})
        joined |= {"gate": way} if way else {}
        place.write(json.dumps(joined, indent=1) + "\n")
    file = "FILE" if out == STDOUT else str(out)
    words = f"edge {name} may join, with {file}: pegboard edge up --join {file} --home … --port …"
    typer.echo(words, err=out == STDOUT)


@contextmanager
def _only_ours(out: Path) -> Iterator[TextIO]:
    """Where a credential goes, made before there is one: a file of ours alone, or a pipe; never a terminal."""
    if out == STDOUT:
        if sys.stdout.isatty():
            raise typer.BadParameter("--out -: a credential is shown on no terminal: send it on, or name a file.")
        yield sys.stdout
        return
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        out.unlink(missing_ok=True)
        raise


@edge.command("remove")
def remove(
    name: NameArgument,
    why: Annotated[str, typer.Option("--why", help="For the list of edges, where it stays.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Remove an edge: its credential opens nothing more, and it stops serving as soon as it is told.

    One that cannot be told goes on with what it has, for as long as that may be used: five minutes for servers with
    sensitive data, a day for all.

    \b
    Example:
      pegboard edge remove second --why "the machine is given back"
    """
    with HubDoor(Home.at(home)) as hub:
        hub.ask("POST", f"{DOOR}/remove", {"name": name, "why": why})
    print(f"edge {name} is removed")


@edge.command("list")
def list_edges(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the edges of a running instance: how each is, what it decides with, and what it does not take.

    The exit status is 1 when one of them is away or has a fault.

    \b
    Example:
      pegboard edge list
    """
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("GET", DOOR)["edges"]
    print(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))
    well = all(not each["faults"] and each["standing"] in ("live", "never", "removed", "awaited") for each in found)
    raise typer.Exit(0 if well else NOT_WELL)


@edge.command("up")
def up(
    home: Annotated[Path, typer.Option(envvar="PEGBOARD_EDGE_HOME", help="Folder of this edge's own state.")],
    port: Annotated[
        int, typer.Option(envvar="PEGBOARD_EDGE_PORT", min=LOWEST_PORT, max=HIGHEST_PORT, help="Port of this edge.")
    ],
    join: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="The file that `pegboard edge add` made; it may be deleted after the first start. "
            "[default: as at this home's last start]",
        ),
    ] = None,
    bind: Annotated[
        str,
        typer.Option(
            envvar="PEGBOARD_BIND",
            callback=checked(preflight.address),
            show_default=False,
            help="IP address that the edge listens on. [default: loopback]",
        ),
    ] = "",
    mtls_port: Annotated[
        int | None,
        typer.Option(
            envvar="PEGBOARD_MTLS_PORT",
            min=LOWEST_PORT,
            max=HIGHEST_PORT,
            show_default=False,
            help="Port at which services call this edge, with the identity that the instance's own edge has. "
            "[default: none may call]",
        ),
    ] = None,
    tls_cert: Annotated[
        str,
        typer.Option(
            envvar=CERTIFICATE,
            show_default=False,
            help="File of this edge's certificate chain, in PEM. [default: as at this home's last start]",
        ),
    ] = "",
    tls_key: Annotated[
        str, typer.Option(envvar=KEY, show_default=False, help="File of its private key, in PEM, mode 0600.")
    ] = "",
    workload_api: Annotated[
        str,
        typer.Option(
            envvar="PEGBOARD_WORKLOAD_API",
            show_default=False,
            help="Of an edge on another machine: the SPIFFE Workload API that it has its identity from.",
        ),
    ] = "",
    trust_domain: Annotated[
        list[str] | None,
        typer.Option(envvar="PEGBOARD_TRUST_DOMAIN", show_default=False, help="Trust domain whose IDs count there."),
    ] = None,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Go to servers that have addresses of their own, as pods have, there and not through the gate.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but problems.")] = False,
) -> None:
    """Run an edge that was added, until Ctrl-C. It starts from its own last good files while the hub is away.

    The exit status is 3 when the hub has removed it.

    \b
    Example:
      pegboard edge up --join second.join --home /srv/pegboard-second --port 8401
    """
    if workload_api and not trust_domain:
        raise typer.BadParameter("with --workload-api name whose IDs count: --trust-domain example.org.")
    tls, domains = _tls(home, tls_cert, tls_key), tuple(trust_domain or ())
    settings = JoinedSettings(home, port, join, bind, mtls_port, tls, workload_api, domains, direct)
    progress = Progress(quiet)
    logging.basicConfig(level=logging.WARNING, handlers=[ProgressHandler(progress)])
    try:
        status = asyncio.run(_run(settings, progress))
    except OSError as error:
        raise unusable(home.absolute(), error) from error
    raise typer.Exit(status)


@edge.command("gate")
def gate(
    home: Annotated[Path, typer.Option(envvar="PEGBOARD_GATE_HOME", help="Folder of the gate's own state.")],
    instance: Annotated[Path, typer.Option("--instance", envvar="PEGBOARD_HOME", help="Home of the instance.")],
    port: Annotated[
        int, typer.Option(envvar="PEGBOARD_GATE_PORT", min=LOWEST_PORT, max=HIGHEST_PORT, help="Port of the gate.")
    ],
    bind: Annotated[
        str,
        typer.Option(
            envvar="PEGBOARD_BIND",
            callback=checked(preflight.address),
            show_default=False,
            help="IP address that the gate listens on. [default: loopback]",
        ),
    ] = "",
    wait: Annotated[
        int, typer.Option("--wait", min=0, help="Seconds to wait for an instance that starts at the same time.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but problems.")] = False,
) -> None:
    """Let edges on other machines to hub and servers of an instance on this one, until Ctrl-C.

    Both sides show certificates (X.509 SVIDs). The gate lets in the edges that were added with their SPIFFE ID, and
    passes bytes on: the hub asks each for its credential, and servers ask each caller for a token.

    \b
    Example:
      pegboard edge gate --instance /srv/pegboard --home /srv/pegboard-gate --port 8444 --bind 192.0.2.7
    """
    progress = Progress(quiet)
    logging.basicConfig(level=logging.WARNING, handlers=[ProgressHandler(progress)])
    deadline = time.monotonic() + wait
    while not Home.at(instance).edge_svid.exists() and time.monotonic() < deadline:
        time.sleep(INSTANCE_LOOK_S)
    try:
        asyncio.run(_run_gate(GateSettings(home, instance, port, bind or "127.0.0.1"), progress))
    except OSError as error:
        raise unusable(home.absolute(), error) from error


async def _run_gate(settings: GateSettings, progress: Progress) -> None:
    found = EdgeGate(settings, progress)
    told = asyncio.Event()
    on_signals(told, found.kill)
    try:
        await found.start()
        await told.wait()
    finally:
        progress.step("stopping")
        await found.stop()


def _way(instance: Home, address: str, spiffe_id: str) -> dict[str, Any] | None:
    """Where an edge on another machine finds the gate, and who that is.

    Raises:
        typer.BadParameter: one of the two is missing, or the instance has no certificate.
    """
    if not address and not spiffe_id:
        return None
    host, _, port = address.rpartition(":")
    if not spiffe_id or not host or not port.isdigit():
        raise typer.BadParameter("an edge on another machine wants both: --spiffe-id and --gate HOST:PORT.")
    try:
        own = spiffe_id_in(instance.edge_svid)
    except (OSError, ValueError) as error:
        words = "the instance's edge has no certificate that the gate could show: start it with --mtls-port."
        raise typer.BadParameter(words) from error
    return {"host": host.strip("[]"), "port": int(port), "spiffe_id": own}


async def _run(settings: JoinedSettings, progress: Progress) -> int:
    joined = JoinedEdge(settings, progress)
    try:
        preflight.check_reach(
            joined.join.public_url,
            settings.bind,
            demo=is_loopback(joined.join.public_url),
            tls=settings.tls is not None,
        )
    except ValueError as error:
        raise ConfigurationError("where this edge is reached", [str(error)]) from error
    told = asyncio.Event()
    on_signals(told, joined.kill)
    serving = asyncio.create_task(_serve(joined))
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        return 0
    except Removed as error:
        progress.problem(f"{error}. This edge serves nobody any more.")
        return REMOVED
    finally:
        await end(serving, stopping)
        progress.step("stopping")
        await joined.stop()


async def _serve(joined: JoinedEdge) -> None:
    await joined.start()
    await joined.stay()


def _tls(home: Path, certificate: str, key: str) -> TlsFiles | None:
    if not certificate and not key:
        return noted_files(noted(Home.at(home)))
    if not certificate or not key:
        raise typer.BadParameter(f"a certificate and its key go together: {CERTIFICATE} and {KEY}.")
    return TlsFiles(Path(certificate).expanduser().absolute(), Path(key).expanduser().absolute())


COLUMNS = ("edge", "state", "version", "newest", "signed", "heard", "added")


def _lines(found: list[Any]) -> list[str]:
    rows = [_row(each) for each in found]
    faults = [f"  {each['name']}: {fault}" for each in found for fault in each["faults"]]
    gone = [
        f"  {each['name']} was removed at {_moment(each['removed_at'])} by {each['removed_by']}: "
        f"{each['removed_why']}"
        for each in found
        if each["removed_at"]
    ]
    widths = [max(len(row[place]) for row in (COLUMNS, *rows)) for place in range(len(COLUMNS))]
    told = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (COLUMNS, *rows)]
    return [*told, *faults, *gone]


def _row(each: Any) -> tuple[str, ...]:
    signed, heard, added = (_moment(each[name]) for name in ("signed_at", "heard_at", "added_at"))
    version, newest = (str(each[name] or "-") for name in ("version", "newest"))
    return each["name"], each["standing"], version, newest, signed, heard, added


def _moment(at_ms: int | None) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" if at_ms else "-"
