"""Building the command line that starts a child through `launch.py`."""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pegboard_hub.runtime.reach import RELAY_SCRIPT, Reach
from pegboard_hub.runtime.users import User

LAUNCH_SCRIPT = Path(__file__).with_name("launch.py")

NO_CORE = {"RLIMIT_CORE": 0}
"""A core file would hold keys and people's data."""


def leave_no_core() -> None:
    """Let this process, and all that it starts, leave no core file behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@dataclass(frozen=True, slots=True)
class Launch:
    """What `launch.py` does before it becomes a command.

    Attributes:
        user: whom to become; None stays as we are.
        limits: names and values of setrlimit(2), soft and hard alike.
        close_network: leave the machine's network; Unix sockets still work.
        umask: of the files the command creates.
        folder: working folder; None keeps the supervisor's.
        groups: files of control groups that the process writes itself into.
        nice: how much lower its priority is than ours.
        relays: start what carries out of the sandbox that the command is; None where nothing is reached.
        ways: inside the sandbox, have what is reached listen; None where nothing is.
        tied: die with the process that started it. Off only inside a sandbox, whose end is the kernel's business.
    """

    user: User | None = None
    limits: dict[str, int] = field(default_factory=lambda: dict(NO_CORE))
    close_network: bool = False
    umask: int = 0o022
    folder: Path | None = None
    tied: bool = True
    groups: tuple[Path, ...] = ()
    nice: int = 0
    relays: Reach | None = None
    ways: Reach | None = None

    def command(
        self, command: list[str], python: Path | str = sys.executable, script: Path = LAUNCH_SCRIPT
    ) -> list[str]:
        """`command`, started through the launch script with `python`."""
        settings = {
            "uid": self.user.uid if self.user else None,
            "gid": self.user.gid if self.user else None,
            "limits": self.limits,
            "close_network": self.close_network,
            "umask": self.umask,
            "folder": str(self.folder) if self.folder else "",
            "parent": os.getpid() if self.tied else 0,
            "groups": [str(group) for group in self.groups],
            "nice": self.nice,
            "relay": {"script": str(RELAY_SCRIPT), "settings": self.relays.outside()} if self.relays else None,
            "ids": [os.getuid(), os.getgid()],
            "ways": self.ways.inside() if self.ways else [],
        }
        return [str(python), "-I", "-S", str(script), json.dumps(settings), "--", *command]
