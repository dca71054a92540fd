"""How much memory submitted servers may take of this machine together: what does not fit waits, and nothing ends.

Counted is what they may take (`resources.memory_mb` of each process), not what they do take: that changes within
seconds, and when memory is gone it is the kernel that chooses who ends.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from pegboard.core.errors import ConfigurationError

SETTING: Final = "PEGBOARD_SERVERS_MEMORY_MB"

SHARE: Final = 0.8
"""Of the machine's memory, unless the operator says how much; the rest is hub's, edge's and builds'."""

FIRST: Final = 2
"""How often a server's first process may find it taken: few servers ever use what they may, and one that is not there
answers nobody."""


@dataclass(frozen=True, slots=True)
class Room:
    """What there is.

    Attributes:
        memory_mb: MiB for all processes together.
    """

    memory_mb: int

    def more(self, wanted: int, running: int, memory_mb: int, taken_mb: int) -> int:
        """How many further processes of a release may start.

        Args:
            wanted: as many would be started.
            running: so many of it run.
            memory_mb: that each may take.
            taken_mb: that all which run may take, of any server.
        """
        fitting = max((self.memory_mb - taken_mb) // memory_mb, 0)
        if not running and not fitting and taken_mb + memory_mb <= FIRST * self.memory_mb:
            fitting = 1
        return min(wanted, fitting)

    def words(self, missing: int, memory_mb: int, taken_mb: int) -> str:
        """What is said of a release that waits."""
        of = "1 replica waits" if missing == 1 else f"{missing} replicas wait"
        return (
            f"{of} for memory: each may take {memory_mb} MiB (resources.memory_mb), what runs may take {taken_mb}, "
            f"and {self.memory_mb} are for submitted servers on this machine ({SETTING})"
        )


def room_here() -> Room:
    """What this machine has, or the operator says.

    Raises:
        ConfigurationError: what the operator says is no number of MiB.
    """
    said = os.environ.get(SETTING, "")
    if not said:
        return Room(int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20))
    if not said.isdecimal() or int(said) < 1:
        raise ConfigurationError(SETTING, [f"{said[:20]!a} is no number of MiB"])
    return Room(int(said))
