"""Limits that the kernel keeps for a whole group of processes (cgroups(7)): processor time, memory, and how many.

Used where the machine lets us make groups: as root on version 1, or with a delegated group on version 2 (systemd:
`Delegate=yes`). Elsewhere a server's processes run at a lower priority, and what they use is watched.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.manifest import Resources

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
ROOM = 16
"""Processes and threads beyond a server's limit that the kernel lets there be, so that the supervisor can name it."""

MEMORY_ROOM = 2, 128
"""Times a server's memory limit, and MiB beyond that, at which the kernel ends it. The supervisor names it before;
what that cannot see (memfd_create(2), pages that several processes map, files in memory) the kernel counts."""

CONTROLLERS = ("cpu", "pids", "memory")

SWEEP_S = 0.02
LONGEST_SWEEP = 250
"""Seconds between two looks whether a group is empty, and how many there are at most."""

NICE = 5
"""Priority of servers where no group limits them (setpriority(2)): hub and edge come first."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Where groups are made.

    Attributes:
        unified: whether it is version 2, where one folder is for all; else a folder for each controller.
        folders: by controller, as far as there are such (`CONTROLLERS`).
    """

    unified: bool
    folders: dict[str, Path]

    @property
    def words(self) -> str:
        """How processor time is limited here, for the operator."""
        if "cpu" in self.folders:
            return f"processor time of submitted servers is limited by control groups ({self.folders['cpu']})"
        return (
            "processor time of submitted servers is NOT limited here, since no control group can be made: "
            "they run at a lower priority than hub and edge"
        )

    @property
    def nice(self) -> int:
        """The priority of servers."""
        return 0 if "cpu" in self.folders else NICE

    def make(self, name: str, resources: Resources) -> tuple[Path, ...]:
        """Make a server's group with its limits; the files that a process writes itself into to join.

        Raises:
            OSError: it cannot be made.
        """
        joins: dict[Path, None] = {}
        for controller, folder in self.folders.items():
            group = folder / name
            group.mkdir(exist_ok=True)
            for file, text in _limits(controller, resources, unified=self.unified):
                (group / file).write_text(text)
            joins[group / "cgroup.procs"] = None
        return tuple(joins)

    async def sweep(self, name: str, resources: Resources) -> None:
        """End every process of a group, wherever it hides from its session; nothing may be about to join it.

        The limit is lifted meanwhile: what has no processor time cannot end either.
        """
        for folder in {*self.folders.values()}:
            for file, text in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
                with suppress(OSError):
                    if (folder / name / file).exists():
                        (folder / name / file).write_text(text)
        for _ in range(LONGEST_SWEEP):
            if not (there := self._inside(name)):
                break
            for pid in there:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(SWEEP_S)
        with suppress(OSError):
            self.make(name, resources)

    def _inside(self, name: str) -> set[int]:
        found: set[int] = set()
        for folder in {*self.folders.values()}:
            with suppress(OSError):
                found |= {int(pid) for pid in (folder / name / "cgroup.procs").read_text(encoding="ascii").split()}
        return found

    def remove(self, name: str) -> None:
        """Remove a group that no process is in any more; one that some is in stays."""
        for folder in {*self.folders.values()}:
            with suppress(OSError):
                (folder / name).rmdir()

    def clear(self, but: str = "") -> None:
        """End and remove what a run left that was killed: a process that had just begun may have outlived it.

        Args:
            but: of groups whose name begins so nothing is ended: somebody is at work there already.
        """
        for folder in {*self.folders.values()}:
            with suppress(OSError):
                for group in [each for each in folder.iterdir() if each.is_dir()]:
                    if but and group.name.startswith(but):
                        continue
                    for pid in self._inside(group.name):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    self.remove(group.name)

    def close(self) -> None:
        """Remove everything that was made."""
        for folder in {*self.folders.values()}:
            with suppress(OSError):
                for group in folder.iterdir():
                    if group.is_dir():
                        self.remove(group.name)
                folder.rmdir()


def find_groups(instance: str) -> Groups:
    """What this machine lets us make for an instance, found by trying."""
    own = dict(_own())
    if "" in own and (ROOT / "cgroup.controllers").exists():
        folder = ROOT / own[""].lstrip("/")
        with suppress(OSError):
            return Groups(True, dict.fromkeys(_delegated(folder, instance), folder / f"pegboard-{instance}"))
        return Groups(True, {})
    folders: dict[str, Path] = {}
    for controller in CONTROLLERS:
        folder = ROOT / controller / own.get(controller, "").lstrip("/") / f"pegboard-{instance}"
        with suppress(OSError):
            if controller in own:
                folder.mkdir(exist_ok=True)
                folders[controller] = folder
    return Groups(False, folders)


def _own() -> Iterator[tuple[str, str]]:
    """The groups of this process by controller; version 2's is called ``."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                yield controller, path


def _delegated(folder: Path, instance: str) -> list[str]:
    """Make the instance's group below our own in version 2; the controllers that it has.

    A group with processes of its own passes no controller on, so we move into one below it, if it is ours alone.
    """
    ours = folder / f"pegboard-{instance}"
    ours.mkdir(exist_ok=True)
    there = (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    wanted: list[str] = [name for name in CONTROLLERS if name in there]
    switch = " ".join(f"+{name}" for name in wanted)
    try:
        (folder / "cgroup.subtree_control").write_text(switch)
    except OSError as error:
        alone = (folder / "cgroup.procs").read_text(encoding="ascii").split() == [str(os.getpid())]
        if error.errno != errno.EBUSY or not alone:
            ours.rmdir()
            raise
        (folder / "supervisor").mkdir(exist_ok=True)
        (folder / "supervisor" / "cgroup.procs").write_text("0")
        (folder / "cgroup.subtree_control").write_text(switch)
    (ours / "cgroup.subtree_control").write_text(switch)
    return wanted


def _limits(controller: str, resources: Resources, *, unified: bool) -> Iterator[tuple[str, str]]:
    quota = resources.cpu_millis * PERIOD_US // 1000
    if controller == "pids":
        yield "pids.max", str(resources.processes + ROOM)
    elif controller == "memory":
        times, more = MEMORY_ROOM
        most = str((resources.memory_mb * times + more) * 2**20)
        yield ("memory.max" if unified else "memory.limit_in_bytes"), most
    elif unified:
        yield "cpu.max", f"{quota} {PERIOD_US}"
    else:
        yield "cpu.cfs_period_us", str(PERIOD_US)
        yield "cpu.cfs_quota_us", str(quota)
