"""One isolation for all that start processes while the instance runs: none of its users becomes another's."""

from __future__ import annotations

from pegboard_hub.runtime.isolation import Isolation


class GrowingIsolation:
    """The isolation of one instance, which learns of servers as they come.

    Attributes:
        now: with all that it knows so far.
    """

    def __init__(self, first: Isolation) -> None:
        self.now = first

    def including(self, role: str) -> Isolation:
        """With one more role, which has its own user where there are such."""
        self.now = self.now.including(role)
        return self.now
