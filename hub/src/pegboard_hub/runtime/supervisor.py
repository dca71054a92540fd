"""The one supervisor: starts processes in their order, keeps them running, and ends them in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from pegboard.core.errors import PegboardError
from pegboard_hub.common.tasks import begin, end
from pegboard_hub.runtime.processes import ProcessSpec, Supervised, Timing

logger = logging.getLogger(__name__)

STATUS_EVERY_S = 1.0
TRIES_BEFORE_GIVING_UP = 3
"""A process that everything else needs may end so often before it was ever live; then the start fails."""


class StartFailed(PegboardError):
    """A process that everything else needs does not come up. The message has the end of its log."""


SETTLE_S = 1.0
"""How long a process that was asked to stop may take over its own end before it is cut short, in seconds."""


class Supervisor:
    """Keeps a table of processes alive.

    Args:
        publish: called with all processes after each change and every second, to tell the world.
        timing: how patient it is.
    """

    def __init__(self, publish: Callable[[Iterable[Supervised]], None], timing: Timing | None = None) -> None:
        self._publish = publish
        self._timing = timing or Timing()
        self._processes: dict[str, Supervised] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None
        self._untold = ""

    @property
    def processes(self) -> tuple[Supervised, ...]:
        """Every process, in the order they were started."""
        return tuple(self._processes.values())

    def tell(self) -> None:
        """Begin to tell the world, before there is a process: a start may take minutes until the first."""
        if self._telling is None:
            self._telling = begin(self._tell(), "telling the status")

    def process(self, name: str) -> Supervised | None:
        """The process of that name, if it was started and not removed."""
        return self._processes.get(name)

    def start(self, spec: ProcessSpec) -> Supervised:
        """Start a process and keep it running."""
        process = Supervised(spec, self._timing, self.publish)
        self._processes[spec.name] = process
        self._lives[spec.name] = asyncio.create_task(process.run(), name=f"supervise {spec.name}")
        self.tell()
        return process

    async def live(self, process: Supervised, limit: float) -> bool:
        """Wait until the process is live, `limit` seconds at most; false when it is not by then."""
        with suppress(TimeoutError):
            await asyncio.wait_for(process.was_live.wait(), limit)
        return process.was_live.is_set()

    async def require(self, process: Supervised, limit: float) -> None:
        """Wait until a process that everything else needs is live.

        Raises:
            StartFailed: it ended again and again, or takes longer than `limit` seconds.
        """
        try:
            async with asyncio.timeout(limit):
                while not process.was_live.is_set() and process.starts <= TRIES_BEFORE_GIVING_UP:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(process.was_live.wait(), 0.05)
        except TimeoutError:
            process.last_error = process.last_error or f"was not ready within {limit:.0f} s"
        if not process.was_live.is_set():
            raise StartFailed(
                f"{process.spec.name} does not start: it {process.last_error}. "
                f"The end of {process.spec.log}:\n{_end_of(process)}"
            )

    async def stop(self, waves: Iterable[Iterable[str]]) -> None:
        """End all processes, wave after wave by name; those that no wave names come last."""
        for wave in waves:
            await asyncio.gather(*(self._stop(name) for name in wave if name in self._processes))
        await asyncio.gather(*(self._stop(name) for name in list(self._lives)))
        if self._telling is not None:
            await end(self._telling)

    async def remove(self, name: str) -> None:
        """End a process for good, if there is one of that name, and forget it."""
        if name in self._processes:
            await self._stop(name)
            del self._processes[name]
            self.publish()

    def kill(self) -> None:
        """End all processes at once, without asking."""
        for process in self._processes.values():
            process.kill()

    def publish(self) -> None:
        """Tell the world now. That it cannot be told, as on a full disk, keeps no process from being kept alive."""
        fault = ""
        try:
            self._publish(self.processes)
        except OSError as error:
            fault = error.strerror or str(error)
        if fault and fault != self._untold:
            logger.error("the status cannot be written, and is tried every second: %s", fault)
        self._untold = fault

    async def _stop(self, name: str) -> None:
        await self._processes[name].stop()
        if (life := self._lives.pop(name, None)) is not None:
            # It ends by itself and cleans up after its process; one that was just starting must be told.
            await asyncio.wait({life}, timeout=SETTLE_S)
            await end(life, tidily=True)

    async def _tell(self) -> None:
        while True:
            self.publish()
            await asyncio.sleep(STATUS_EVERY_S)


def _end_of(process: Supervised, lines: int = 8) -> str:
    with suppress(OSError):
        return "\n".join(process.spec.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(it wrote nothing)"
