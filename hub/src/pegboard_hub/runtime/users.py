"""The user ids of one instance: its hub, its edge and each of its servers have their own where the machine allows it.

They need no entry in /etc/passwd. They follow from the instance and the role, so that a restart finds its files again
and two instances on one machine share none.
"""

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

HUB = "hub"
EDGE = "edge"
PROBER = "prober"
EGRESS = "egress"
"""What carries servers' connections out of their sandboxes (`relay.py`): it has a server's way out, and no file."""

TRUSTED = (HUB, EDGE, PROBER)
"""Roles that run none of an author's code."""


@dataclass(frozen=True, slots=True)
class User:
    """A user id with one group: its own of the same number, or that of another role.

    Attributes:
        uid: the user.
        of_group: the group where it is not the user's own.
    """

    uid: int
    of_group: int | None = None

    @property
    def gid(self) -> int:
        """The user's only group."""
        return self.uid if self.of_group is None else self.of_group


@dataclass(frozen=True, slots=True)
class Users:
    """Who each part of one instance runs as.

    Attributes:
        by_role: the users so far.
        instance: the home's fingerprint.
        first: the lowest id to choose from.
        count: how many there are to choose from.
    """

    by_role: dict[str, User]
    instance: str
    first: int
    count: int

    @classmethod
    def of(cls, instance: str, servers: Iterable[str], id_map: str | None = None) -> Users:
        """The users of `instance`.

        Args:
            instance: the home's fingerprint.
            servers: `namespace/name` of each server.
            id_map: what /proc/self/uid_map says; read from there when None.
        """
        first, count = _range(Path("/proc/self/uid_map").read_text(encoding="ascii") if id_map is None else id_map)
        users = cls({}, instance, first, count)
        for role in [HUB, EDGE, *sorted(servers), PROBER, EGRESS]:
            users = users.including(role)
        return users

    def including(self, role: str) -> Users:
        """These users and one for `role`. None of these becomes another, whatever role comes."""
        if role in self.by_role:
            return self
        taken = {user.uid for user in self.by_role.values()}
        digest = hashlib.sha256(f"{self.instance}/{role}".encode()).digest()
        offset = int.from_bytes(digest[:8], "big") % self.count
        while self.first + offset in taken:
            offset = (offset + 1) % self.count
        # The prober may connect to servers, as the edge may, and nothing else of what the edge's own user may.
        group = self.edge.uid if role == PROBER else None
        return replace(self, by_role={**self.by_role, role: User(self.first + offset, group)})

    @property
    def hub(self) -> User:
        """Holds the signing keys."""
        return self.by_role[HUB]

    @property
    def edge(self) -> User:
        """Envoy; the one that may connect to servers."""
        return self.by_role[EDGE]


def is_root() -> bool:
    """True when this process may start others under other users."""
    return os.geteuid() == 0


def _range(id_map: str) -> tuple[int, int]:
    """First id and how many to choose from: far above people's where there is room, above 20000 in a container."""
    extents = [(int(line.split()[0]), int(line.split()[2])) for line in id_map.splitlines() if line.strip()]
    start, length = max(extents, key=lambda extent: extent[1])
    if start + length > 1 << 31:
        return 1 << 29, 1 << 29
    first = max(start, 20_000)
    return first, max(start + length - first, 1)


def user_name(uid: int) -> str:
    """A user as people know it."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
