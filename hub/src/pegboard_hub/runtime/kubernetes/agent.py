"""The agent beside a process in a pod: `python -m pegboard_hub.runtime.kubernetes.agent …`.

It keeps the pod's identity, runs the Envoy in front of the process (`edge.sidecar`), and beside a server fetches what
that decides with. When Envoy ends it ends as well, and the kubelet starts both anew; a server beside it goes on, and
so do calls that other pods carry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard.core.spiffe import is_spiffe_id
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.home import replace_file
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.common.tasks import end
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.remote import Remote
from pegboard_hub.edge.sidecar import Door, Probes, Way, sidecar
from pegboard_hub.runtime.kubernetes.bundle_link import BundleLink
from pegboard_hub.services.keeper import Keeper, Source
from pegboard_hub.services.material import Files

log = logging.getLogger(__name__)

BOOTSTRAP: Final = "sidecar.json"
ADMIN: Final = "admin.sock"
IDENTITY_LOOK_S: Final = 0.1

ENVOY_ENDED: Final = 3
"""Exit status when Envoy has ended by itself."""


class Agent:
    """One pod's agent.

    Args:
        folder: the agent's own; nobody else may enter.
        source: where the pod's identity comes from.
        doors: where others come in.
        ways: where this pod goes.
        probes: what the kubelet may ask.
        link: fetches what a server decides with; None beside anything else.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        doors: tuple[Door, ...],
        ways: tuple[Way, ...],
        probes: Probes,
        link: BundleLink | None = None,
    ) -> None:
        self._folder = folder
        self._own = Identity(folder / "sds-own.json", folder / "sds-trust.json")
        self._keeper = Keeper(source, Files(self._own.svid, self._own.trust))
        self._bootstrap = sidecar(self._own, doors, ways, probes, folder / ADMIN, every_address())
        self._sockets = [each.socket for each in ways]
        self._link = link

    async def run(self, ended: asyncio.Event) -> int:
        """Run until `ended` is set; gives the exit status.

        Raises:
            OSError: a file cannot be written, or Envoy cannot be started.
        """
        stop = threading.Event()
        keeping = asyncio.create_task(asyncio.to_thread(self._keeper.run, stop), name="keep the identity")
        linking = asyncio.create_task(self._link.run(), name="fetch the bundle") if self._link else None
        envoy: asyncio.subprocess.Process | None = None
        try:
            if not await self._identified(ended):
                return 0
            replace_file(self._folder / BOOTSTRAP, json.dumps(self._bootstrap))
            for path in (*self._sockets, self._folder / ADMIN):
                path.unlink(missing_ok=True)
            envoy = await asyncio.create_subprocess_exec(*envoy_arguments(self._folder / BOOTSTRAP, 1))
            waiting = [asyncio.create_task(envoy.wait()), asyncio.create_task(ended.wait())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await end(*waiting)
            if ended.is_set():
                return 0
            log.error("envoy has ended", extra={"status": envoy.returncode})
            return ENVOY_ENDED
        finally:
            if envoy is not None and envoy.returncode is None:
                with suppress(ProcessLookupError):
                    envoy.terminate()
                await envoy.wait()
            stop.set()
            await asyncio.gather(keeping, return_exceptions=True)
            if linking is not None:
                await end(linking)

    async def _identified(self, ended: asyncio.Event) -> bool:
        """Wait for the pod's identity: Envoy does not start without the files. False when told to stop first."""
        while not (self._own.svid.exists() and self._own.trust.exists()):
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), IDENTITY_LOOK_S)
                return False
        return True


def every_address() -> str:
    """What to listen on: every address of the pod, which may have none of version 6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104 - the certificate says who gets in
    return "::"


def remote(text: str) -> Remote:
    """`SPIFFE-ID@HOST:PORT`, as on the command line.

    Raises:
        ValueError: it is none.
    """
    spiffe_id, at, place = text.partition("@")
    host, colon, port = place.rpartition(":")
    if not (at and colon and host and is_spiffe_id(spiffe_id) and port.isascii() and port.isdigit()):
        raise ValueError(f"{text[:200]!r} is no SPIFFE-ID@HOST:PORT")
    return Remote(host.strip("[]"), int(port), spiffe_id)


def another_door(text: str) -> Door:
    """`SPIFFE-ID@PORT:SOCKET`, as on the command line.

    Raises:
        ValueError: it is none.
    """
    spiffe_id, at, place = text.partition("@")
    port, colon, path = place.partition(":")
    if not (at and colon and path.startswith("/") and is_spiffe_id(spiffe_id) and port.isascii() and port.isdigit()):
        raise ValueError(f"{text[:200]!r} is no SPIFFE-ID@PORT:SOCKET")
    return Door(f"door-{port}", int(port), Path(path), (spiffe_id,))


def another_way(text: str) -> tuple[Path, Remote]:
    """`SOCKET=SPIFFE-ID@HOST:PORT`, as on the command line.

    Raises:
        ValueError: it is none.
    """
    path, equals, place = text.partition("=")
    if not (equals and path.startswith("/")):
        raise ValueError(f"{text[:200]!r} is no SOCKET=SPIFFE-ID@HOST:PORT")
    return Path(path), remote(place)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pegboard_hub.runtime.kubernetes.agent", description=__doc__)
    parser.add_argument("--own", type=Path, required=True, help="folder of the agent's own")
    parser.add_argument("--told", type=Path, help="folder of what the server is told, and of the ways out")
    parser.add_argument("--socket", type=Path, help="where the process beside it listens; none where nobody comes in")
    parser.add_argument("--channel", type=Path, help="file of the server's channel; none beside anything else")
    parser.add_argument("--workload-api", required=True, help="where the pod's identity comes from")
    parser.add_argument("--trust-domain", action="append", required=True, help="whose identities count")
    parser.add_argument("--mtls-port", type=int, default=0, help="TCP port of the door")
    parser.add_argument(
        "--door", type=another_door, action="append", default=[], help="another door, as SPIFFE-ID@PORT:SOCKET"
    )
    parser.add_argument("--probe-port", type=int, required=True, help="TCP port that the kubelet asks at")
    parser.add_argument("--edge", action="append", default=[], help="SPIFFE ID that is let in; may be repeated")
    parser.add_argument("--below", action="append", default=[], help="beginning of SPIFFE IDs that are let in")
    parser.add_argument("--hub", type=remote, help="the hub's door for pods, as SPIFFE-ID@HOST:PORT")
    parser.add_argument("--releases", type=remote, help="the runtime's door for releases, as SPIFFE-ID@HOST:PORT")
    parser.add_argument(
        "--way", type=another_way, action="append", default=[], help="another way out, as SOCKET=SPIFFE-ID@HOST:PORT"
    )
    parser.add_argument("--no-http", action="store_true", help="what is beside it answers no probes")
    return parser


def assemble(options: argparse.Namespace, source: Source) -> Agent:
    """The agent that a command line describes.

    Raises:
        ConfigurationError: the channel's file cannot be read.
    """
    told: Path = options.told or options.own
    named = (("internal", "hub.sock", options.hub), ("releases", "releases.sock", options.releases))
    ways = tuple(Way(name, told / file, place) for name, file, place in named if place is not None)
    ways += tuple(Way(socket.stem, socket, place) for socket, place in options.way)
    doors: tuple[Door, ...] = tuple(options.door)
    if options.socket is not None:
        doors = (Door("mcp", options.mtls_port, options.socket, tuple(options.edge), tuple(options.below)), *doors)
    link = None
    if options.channel is not None:
        try:
            channel = str(json.loads(options.channel.read_text(encoding="utf-8"))["channel_token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(str(options.channel), ["is no channel's file"]) from error
        link = BundleLink(told, channel, at_socket(told / "hub.sock"))
    probed = None if options.no_http else options.socket
    probes = Probes(options.probe_port, probed)
    return Agent(options.own, source, doors, ways, probes, link)


async def _run(agent: Agent) -> int:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return await agent.run(ended)


def main(arguments: list[str] | None = None, source: Callable[[argparse.Namespace], Source] | None = None) -> int:
    """Run until told to stop. Exit status 1: it cannot start; 3: Envoy has ended."""
    configure_logging()
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(assemble(options, (source or _workload_api)(options))))
    except (PegboardError, OSError, ValueError) as error:
        log.error("the agent cannot start: %s", error)
        return 1


def _workload_api(options: argparse.Namespace) -> Source:
    from pegboard_hub.services.workload import WorkloadApi  # an extra of its own, with gRPC

    return WorkloadApi(options.workload_api, tuple(options.trust_domain))


if __name__ == "__main__":
    sys.exit(main())
