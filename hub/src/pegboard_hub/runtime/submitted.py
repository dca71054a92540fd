"""Submitted servers of one instance: what builds them, what runs them, and what talks to the hub, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

import httpx2

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.edge.agent import EdgeAgent
from pegboard_hub.packages.shelf import Shelf, platform_wheels
from pegboard_hub.runtime.building.builder import Builder
from pegboard_hub.runtime.building.orders import at_once, builders, clear_builds
from pegboard_hub.runtime.cgroups import find_groups
from pegboard_hub.runtime.conversation import Conversation
from pegboard_hub.runtime.door import RuntimeDoor
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.hub_door import ANSWER_S, HubDoor
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.replica import Site
from pegboard_hub.runtime.machine.runtime import NAME, MachineRuntime
from pegboard_hub.runtime.permissions import ids
from pegboard_hub.runtime.supervisor import Supervisor
from pegboard_hub.runtime.users import is_root

Sends = Callable[[ServerName, str], bool]
"""Whether an edge sends calls to an address of a server."""


def sends_to(agent: EdgeAgent) -> Sends:
    """What this machine's edge sends where."""
    return agent.sends_to


class Submitted:
    """Everything of submitted servers on this machine.

    Args:
        home: the instance's.
        isolation: how the author's code is run.
        supervisor: keeps processes alive.
        public_url: the edge's origin.
        uv: the program that builds environments.
        sends: whether the edge sends calls to an address.
        report: where an operator reads how processor time is limited.
        indexes: package indexes that lock files may name.
        here: they are built and run here; else by runtimes elsewhere alone, and no submitted code comes here.
    """

    def __init__(
        self,
        home: Home,
        isolation: GrowingIsolation,
        supervisor: Supervisor,
        public_url: str,
        uv: Path,
        sends: Sends,
        report: Reporter,
        indexes: Callable[[], Iterable[str]],
        *,
        here: bool = True,
    ) -> None:
        self._home = home
        self._here = here
        self._supervisor = supervisor
        # The operator's uv and the author's sources say where the hub is: nothing of a proxy's environment counts.
        transport = httpx2.AsyncHTTPTransport(uds=str(home.internal_socket))
        client = httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=ANSWER_S, trust_env=False)
        self._hub = HubDoor(client, lambda: home.operator_token.read_text(encoding="utf-8").strip())
        store = ArtifactStore(home, self._hub.artifact, lambda: platform_wheels(home))
        self._groups = find_groups(home.instance)
        self._report = report
        site = Site(home, isolation, supervisor, public_url, sends, self.note_change, self._groups)
        self._runtime = MachineRuntime(site, store, uv)
        self._builder = Builder(home, isolation, uv, store, Shelf(home).of_version, indexes, self._groups)
        self._at_once = at_once()
        self._conversation = Conversation(self._hub, self._runtime)
        owner = ids(isolation.now, "hub") if is_root() else None
        self._door = RuntimeDoor(self._runtime, home.runtime_socket, owner)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def processes(self) -> list[str]:
        """Names of the processes of submitted servers."""
        return [process.spec.name for process in self._supervisor.processes if process.spec.server]

    def note_change(self) -> None:
        """There may be something new to tell the hub."""
        self._runtime.note_change()

    def start(self) -> None:
        """Begin to build, to run and to tell; the hub is there.

        Raises:
            ConfigurationError: the kit is not installed as a distribution.
            OSError: its wheel cannot be kept.
        """
        clear_builds(self._home)
        platform_wheels(self._home)
        if not self._here:
            self._report.step(
                "submitted servers are built and run elsewhere: by runtimes that `pegboard runtime` added"
            )
            return
        self._report.step(self._groups.words)
        self._report.step(f"submitted servers are built {self._at_once} at once")
        self._groups.clear()
        building = builders(self._home, self._hub, self._builder, f"{NAME}-{uuid4().hex[:12]}", self._at_once)
        work = {f"builder {number}": each.run() for number, each in enumerate(building)}
        work |= {"talking to the hub": self._conversation.run(), "the runtime's door": self._door.run()}
        self._tasks = [begin(each, name) for name, each in work.items()]

    async def hold(self) -> None:
        """Build and start nothing any more; what runs goes on until it is ended in its order."""
        self._runtime.hold()
        await end(*self._tasks, tidily=True)
        self._tasks.clear()

    async def close(self) -> None:
        """Leave nothing of what ran."""
        await self._runtime.close()
        self._groups.close()
        await self._hub.close()
